"""ResUNet (Zhang, Liu, Wang 2018, "Road extraction by deep residual U-Net"): a U-Net of residual units.

Encoder base, 2 base, 4 base, each level but the first entered by a convolution of stride 2 (no pooling), a bridge of
8 base, and a decoder of resize, concat, residual unit. At base 64, depth 3, 256x256, one class: 8.22 M parameters,
45.2 G MACs. Deviations: residuals are post-activation (conv, BN, ReLU6, conv, BN, + shortcut, ReLU6), because the BN
of a pre-activation unit cannot fold into a convolution across the sum; ReLU6 in place of ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.models.blocks import conv_bn, init_head, init_weights, logit_clip, resizing, upsample

PRESETS = tuple((f"resunet-{base}", ModelSpec(name="resunet", base=base, depth=3)) for base in (16, 64))


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions and a 1x1 shortcut, added, then ReLU6. The first convolution and the shortcut stride."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(conv_bn(cin, cout, 3, stride), conv_bn(cout, cout, 3, act=False))
        self.shortcut = conv_bn(cin, cout, 1, stride, act=False)
        self.act = nn.ReLU6(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H/stride, W/stride)."""
        y: Tensor = self.act(self.body(x) + self.shortcut(x))  # (N, cout, H/stride, W/stride)
        return y


class ResUNet(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits in +-7.94. H, W: multiples of 2**depth."""

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        widths = [spec.base * 2**level for level in range(spec.depth + 1)]
        self.encoder = nn.ModuleList(
            ResidualUnit(cin, cout, stride=2 if level else 1)
            for level, (cin, cout) in enumerate(zip([in_channels, *widths[:-1]], widths, strict=True))
        )
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        for cin, cout in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True):
            self.up.append(upsample(resizing(spec.upsample, "resunet")))
            self.decoder.append(ResidualUnit(cin + cout, cout))
        self.head = nn.Conv2d(widths[0], classes, 1)
        self.clip = logit_clip()
        init_weights(self)
        init_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits."""
        taps = []
        for level in self.encoder:
            x = level(x)  # (N, base * 2**n, H/2**n, W/2**n)
            taps.append(x)
        for up, unit, tap in zip(self.up, self.decoder, reversed(taps[:-1]), strict=True):
            x = unit(torch.cat((up(x), tap), dim=1))  # (N, base * 2**n, H/2**n, W/2**n)
        logits: Tensor = self.clip(self.head(x))  # (N, classes, H, W)
        return logits
