"""LinkNet on ResNet-18 (Chaurasia & Culurciello 2017): every encoder stage is added to the decoder at its size.

A decoder block is 1x1 to a quarter, 3x3 transposed convolution of stride 2, 1x1 to the next stage's channels, each
with BN and ReLU; the last one keeps the size. Then 3x3 transposed to 32, 3x3, and a 2x2 transposed convolution to the
logits at full size. No deviation but random weights.
"""

from __future__ import annotations

from peers.layers import conv_bn, init_he, init_head, stage
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
BLOCKS = 2
LAST = 32


def _up(cin: int, cout: int, stride: int) -> nn.Sequential:
    """3x3 transposed convolution to exactly `stride` times the size, BN, ReLU."""
    conv = nn.ConvTranspose2d(cin, cout, 3, stride, padding=1, output_padding=stride - 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU())


def decoder_block(cin: int, cout: int, stride: int) -> nn.Sequential:
    """(N, cin, H, W) -> (N, cout, H*stride, W*stride)."""
    return nn.Sequential(conv_bn(cin, cin // 4, 1), _up(cin // 4, cin // 4, stride), conv_bn(cin // 4, cout, 1))


class LinkNetR18(nn.Module):
    """(N, 3, H, W) -> (N, classes, H, W) logits. H, W: multiples of 32."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        first = WIDTHS[0]
        self.stem = nn.Sequential(conv_bn(3, first, 7, 2), nn.MaxPool2d(3, 2, 1))
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for place, (cin, cout) in enumerate(zip((first, *WIDTHS[:-1]), WIDTHS, strict=True)):
            self.encoder.append(stage(cin, cout, BLOCKS, 2 if place else 1))
            self.decoder.append(decoder_block(cout, cin, 2 if place else 1))
        self.last = nn.Sequential(_up(first, LAST, 2), conv_bn(LAST, LAST, 3))
        self.head = nn.ConvTranspose2d(LAST, classes, 2, 2)
        init_he(self)
        init_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised frame -> (N, classes, H, W) logits."""
        x = self.stem(x)  # (N, 64, H/4, W/4)
        taps = []
        for blocks in self.encoder:
            x = blocks(x)  # (N, 64 .. 512, H/2**n, W/2**n), n = 2 .. 5
            taps.append(x)
        for decode, tap in zip(reversed(self.decoder[1:]), reversed(taps[:-1]), strict=True):
            x = decode(x) + tap  # (N, 256 .. 64, H/2**n, W/2**n), n = 4 .. 2
        x = self.decoder[0](x)  # (N, 64, H/4, W/4)
        logits: Tensor = self.head(self.last(x))  # (N, classes, H, W)
        return logits
