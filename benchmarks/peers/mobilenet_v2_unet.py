"""U-Net on a MobileNetV2 encoder (Sandler et al. 2018) with the common decoder of 256, 128, 64, 32, 16 channels.

What a user gets who asks a segmentation library for this pair: taps at strides 2, 4, 8, 16 and 32 (16, 24, 32, 96 and
1280 channels: the last one behind the 1x1 that widens 320), and five decoder blocks of nearest x2, concat of the tap
(none at full size), and two 3x3 convolutions with BN and ReLU; a 3x3 head. No deviation but random weights.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from peers.layers import conv_bn, init_he, init_head
from torch import Tensor, nn

STEM = 32
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Table 2 of the paper: expansion, channels, repeats, stride of the first."""
TAPS = (0, 1, 2, 4)
"""Stages of BLOCKS whose results the decoder reads: strides 2, 4, 8, 16."""
WIDE = 1280
DECODER = (256, 128, 64, 32, 16)


def _unit(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU6())


class InvertedResidual(nn.Module):
    """1x1 expand, 3x3 depthwise, linear 1x1; added to its input where the shape stays."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = cin * expand
        layers = [] if expand == 1 else [_unit(cin, hidden, 1)]
        self.body = nn.Sequential(
            *layers, _unit(hidden, hidden, 3, stride, groups=hidden), conv_bn(hidden, cout, 1, act=False)
        )
        self.adds = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H/stride, W/stride)."""
        y: Tensor = self.body(x)
        return x + y if self.adds else y


class MobileNetV2Unet(nn.Module):
    """(N, 3, H, W) -> (N, classes, H, W) logits. H, W: multiples of 32."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.stem = _unit(3, STEM, 3, stride=2)
        self.encoder = nn.ModuleList()
        cin = STEM
        for expand, cout, count, stride in BLOCKS:
            blocks = OrderedDict()
            for n in range(count):
                blocks[str(n)] = InvertedResidual(cin, cout, stride if n == 0 else 1, expand)
                cin = cout
            self.encoder.append(nn.Sequential(blocks))
        self.widen = _unit(cin, WIDE, 1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.decoder = nn.ModuleList()
        cin = WIDE
        for cout, tap in zip(DECODER, (*(BLOCKS[place][1] for place in reversed(TAPS)), 0), strict=True):
            self.decoder.append(nn.Sequential(conv_bn(cin + tap, cout, 3), conv_bn(cout, cout, 3)))
            cin = cout
        self.head = nn.Conv2d(cin, classes, 3, padding=1)
        init_he(self)
        init_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised frame -> (N, classes, H, W) logits."""
        x = self.stem(x)  # (N, 32, H/2, W/2)
        taps = []
        for place, blocks in enumerate(self.encoder):
            x = blocks(x)
            if place in TAPS:
                taps.append(x)  # (N, 16 | 24 | 32 | 96, H/2**n, W/2**n), n = 1 .. 4
        x = self.widen(x)  # (N, 1280, H/32, W/32)
        for conv, tap in zip(self.decoder, (*reversed(taps), None), strict=True):
            x = self.up(x)
            x = conv(x if tap is None else torch.cat((x, tap), dim=1))  # (N, 256 .. 16, H/2**n, W/2**n), n = 4 .. 0
        logits: Tensor = self.head(x)  # (N, classes, H, W)
        return logits
