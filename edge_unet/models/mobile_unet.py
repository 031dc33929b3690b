"""Mobile U-Net: a MobileNetV2 encoder (Sandler et al. 2018, table 2) under a U-Net decoder of depthwise-separable
convolutions.

Taps at strides 2, 4, 8, 16, 32 (16, 24, 32, 96, 320 channels at width 1). Each decoder level upsamples by 2,
concatenates the tap and applies one depthwise-separable conv. Logits are computed at 1/2 and resized once.
ReLU6 only, BN everywhere: every layer folds and quantizes. At width 1, depth 5, 256x256, one class: 1.89 M
parameters, 0.433 G MACs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.models.blocks import InvertedResidual, conv_bn, init_weights, logit_clip, resizing, round_to_8, upsample

# (expand, channels, blocks, stride) per stage: MobileNetV2 paper, table 2, without the 1280-channel head.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
STEM = 32
LEVELS = ((0,), (1,), (2,), (3, 4), (5, 6))  # stages that make up each resolution: 1/2, 1/4, 1/8, 1/16, 1/32

PRESETS = tuple((f"mobile_unet-{width}", ModelSpec(width=width)) for width in (0.35, 0.5, 1.0))


def separable(cin: int, cout: int) -> nn.Sequential:
    """3x3 depthwise then 1x1, both with BN and ReLU6."""
    return nn.Sequential(conv_bn(cin, cin, 3, groups=cin), conv_bn(cin, cout, 1))


def mobilenet_v2(in_channels: int, width: float, depth: int) -> tuple[nn.Sequential, nn.ModuleList, list[int]]:
    """The stem, (N, in_channels, H, W) -> (N, stem, H/2, W/2), then `depth` levels whose results are the taps at
    strides 2, 4, …, 2**depth, and the taps' channels."""
    channels = round_to_8(STEM * width)
    stem, encoder, taps = conv_bn(in_channels, channels, 3, stride=2), nn.ModuleList(), []
    for level in LEVELS[:depth]:
        blocks: list[nn.Module] = []
        for expand, base, count, stride in (STAGES[i] for i in level):
            for n in range(count):
                cout = round_to_8(base * width)
                blocks.append(InvertedResidual(channels, cout, stride if n == 0 else 1, expand))
                channels = cout
        encoder.append(nn.Sequential(*blocks))
        taps.append(channels)
    return stem, encoder, taps


class MobileUNet(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits in +-7.94. H, W: multiples of 2**depth.

    The input range and colour order are those of core.spec.PreprocessSpec.
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        self.stem, self.encoder, taps = mobilenet_v2(in_channels, spec.width, spec.depth)
        channels = taps[-1]
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for wish, tap in zip(spec.decoder[len(spec.decoder) - spec.depth + 1 :], reversed(taps[:-1]), strict=True):
            cout = round_to_8(wish * spec.width)
            self.up.append(upsample(resizing(spec.upsample, "mobile_unet")))
            self.decoder.append(separable(channels + tap, cout))
            channels = cout
        self.head = nn.Conv2d(channels, classes, 1)
        self.clip = logit_clip()
        self.resize = upsample("bilinear")
        init_weights(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits."""
        x = self.stem(x)  # (N, stem, H/2, W/2)
        taps = []
        for level in self.encoder:
            x = level(x)  # (N, tap, H/2**level, W/2**level)
            taps.append(x)
        for up, conv, tap in zip(self.up, self.decoder, reversed(taps[:-1]), strict=True):
            x = conv(torch.cat((up(x), tap), dim=1))  # (N, decoder, H/2**level, W/2**level)
        logits: Tensor = self.resize(self.clip(self.head(x)))  # (N, classes, H, W)
        return logits
