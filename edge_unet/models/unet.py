"""Plain U-Net (Ronneberger et al. 2015) with same padding and BN, because users compare with it.

Two 3x3 convs per level, 2x2 max-pool, channels base * 2**level, concat, 1x1 head at full size. `upsample = "deconv"` is
the paper's 2x2 up-convolution (base 64: 31.0 M parameters); the others resize and apply a 3x3 conv (34.5 M), which
leaves no checkerboard (Odena et al. 2016). Deviations: same padding instead of valid, BN, ReLU6 instead of ReLU
(a bounded range quantizes better), no dropout.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.models.blocks import conv_bn, init_weights, logit_clip, upsample_to

PRESETS = (
    ("unet-8", ModelSpec(name="unet", base=8, depth=4)),
    ("unet-16", ModelSpec(name="unet", base=16, depth=4)),
    ("unet-32", ModelSpec(name="unet", base=32, depth=4, upsample="deconv")),
    ("unet-64", ModelSpec(name="unet", base=64, depth=4, upsample="deconv")),
)


def double_conv(cin: int, cout: int) -> nn.Sequential:
    """Two 3x3 convs, each with BN and ReLU6."""
    return nn.Sequential(conv_bn(cin, cout, 3), conv_bn(cout, cout, 3))


def encoder_levels(in_channels: int, widths: Sequence[int]) -> nn.ModuleList:
    """One double_conv for each of `widths`; in front of all but the first stands a pool (encoder_taps)."""
    return nn.ModuleList(double_conv(cin, cout) for cin, cout in zip([in_channels, *widths[:-1]], widths, strict=True))


def encoder_taps(levels: nn.ModuleList, pool: nn.Module, x: Tensor) -> list[Tensor]:
    """What each level gives, (N, widths[n], H/2**n, W/2**n), finest first."""
    taps = []
    for n, level in enumerate(levels):
        x = level(pool(x) if n else x)  # (N, widths[n], H/2**n, W/2**n)
        taps.append(x)
    return taps


class UNet(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits in +-7.94. H, W: multiples of 2**depth."""

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        widths = [spec.base * 2**level for level in range(spec.depth + 1)]
        self.encoder = encoder_levels(in_channels, widths)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for cin, cout in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True):
            self.up.append(upsample_to(spec.upsample, cin, cout))
            self.decoder.append(double_conv(2 * cout, cout))
        self.head = nn.Conv2d(widths[0], classes, 1)
        self.clip = logit_clip()
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits."""
        *taps, x = encoder_taps(self.encoder, self.pool, x)
        for up, conv, tap in zip(self.up, self.decoder, reversed(taps), strict=True):
            x = conv(torch.cat((up(x), tap), dim=1))  # (N, base * 2**n, H/2**n, W/2**n)
        logits: Tensor = self.clip(self.head(x))  # (N, classes, H, W)
        return logits
