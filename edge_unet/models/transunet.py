"""TransUNet (Chen et al. 2021), R50-ViT-B/16: a teacher. ResNet-50's first three stages to 1/16, a vision transformer
on those positions, and a decoder (CUP) that upsamples four times with the ResNet's taps.

At b16: 105.3 M parameters, 38.4 G MACs at 256x256. Deviations for export: BN instead of GroupNorm and weight
standardisation (the same parameter count, and it folds); 2x2 instead of 3x3 max-pool, which pads differently in every
runtime; ReLU6 inside the blocks; half-pixel or nearest instead of align_corners upsampling; maps instead of token
sequences, so that linear layers are 1x1 convolutions in INT8, with LayerNorm, attention and position embedding as
float islands; no dropout. The position embedding is laid out for the recipe's input size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.core.registry import lookup, registry
from edge_unet.models.blocks import conv_bn, init_weights, logit_clip, resizing, upsample
from edge_unet.models.norm import ChannelNorm
from edge_unet.models.transformer import PositionEmbedding, TokenAttention, linear

STRIDE = 16


@dataclass(frozen=True, slots=True)
class TransUNetSize:
    """`stem`: the ResNet's first channels; its stages have 4, 8 and 16 times as many. `decoder`: coarse to fine."""

    stem: int
    blocks: tuple[int, int, int]
    hidden: int
    layers: int
    heads: int
    expand: int
    bridge: int
    decoder: tuple[int, int, int, int]


SIZES: Mapping[str, TransUNetSize] = registry(
    (
        ("tiny", TransUNetSize(8, (1, 1, 2), 64, 2, 4, 2, 64, (32, 24, 16, 8))),
        ("b16", TransUNetSize(64, (3, 4, 9), 768, 12, 12, 4, 512, (256, 128, 64, 16))),
    )
)
"""b16 is the paper's; tiny is ours, of the same shape, and trains on a CPU. An empty variant is tiny."""

PRESETS = tuple(
    (f"transunet-{variant}", ModelSpec(name="transunet", variant=variant, depth=4, upsample="bilinear"))
    for variant in SIZES
)


class Bottleneck(nn.Module):
    """relu(x + 1x1 - 3x3 - 1x1), channels cout / 4 inside (He et al. 2016). The sum's ReLU has no upper bound: over
    16 blocks it grows beyond 6."""

    def __init__(self, cin: int, cout: int, stride: int) -> None:
        super().__init__()
        inner = cout // 4
        self.body = nn.Sequential(
            conv_bn(cin, inner, 1), conv_bn(inner, inner, 3, stride), conv_bn(inner, cout, 1, act=False)
        )
        self.shortcut = nn.Identity() if stride == 1 and cin == cout else conv_bn(cin, cout, 1, stride, act=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H / stride, W / stride)."""
        y: Tensor = self.act(self.shortcut(x) + self.body(x))  # (N, cout, H / stride, W / stride)
        return y


class VitBlock(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)) (Dosovitskiy et al. 2021)."""

    def __init__(self, channels: int, heads: int, expand: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.query, self.key, self.value = (linear(channels, channels) for _ in range(3))
        self.attention = TokenAttention(heads)
        self.project = linear(channels, channels)
        self.feed = nn.Sequential(
            ChannelNorm(channels), linear(channels, channels * expand), nn.GELU(), linear(channels * expand, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y = self.norm(x)
        x = x + self.project(self.attention(self.query(y), self.key(y), self.value(y)))
        z: Tensor = x + self.feed(x)
        return z


class TransUNet(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits in +-7.94. H, W: multiples of 16."""

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        size = lookup(SIZES, spec.variant or "tiny", "transunet variant")
        taps = [size.stem, *(size.stem * 4 * 2**n for n in range(3))]
        self.stem = conv_bn(in_channels, size.stem, 7, stride=2)
        self.pool = nn.MaxPool2d(2)
        self.encoder = nn.ModuleList()
        for stage, (count, cin, cout) in enumerate(zip(size.blocks, taps[:-1], taps[1:], strict=True)):
            blocks = (Bottleneck(cout if n else cin, cout, 2 if stage and not n else 1) for n in range(count))
            self.encoder.append(nn.Sequential(*blocks))
        self.bridge = conv_bn(size.hidden, size.bridge, 3)
        self.up, self.decoder = nn.ModuleList(), nn.ModuleList()
        channels = size.bridge
        for skip, cout in zip((*reversed(taps[:-1]), 0), size.decoder, strict=True):
            self.up.append(upsample(resizing(spec.upsample, "transunet")))
            self.decoder.append(nn.Sequential(conv_bn(channels + skip, cout, 3), conv_bn(cout, cout, 3)))
            channels = cout
        self.head = nn.Conv2d(channels, classes, 3, padding=1)
        self.clip = logit_clip()
        init_weights(self)
        # Made after He's initialisation: these have their own.
        self.patches = linear(taps[-1], size.hidden)
        self.position = PositionEmbedding(size.hidden, STRIDE)
        self.transformer = nn.Sequential(
            *(VitBlock(size.hidden, size.heads, size.expand) for _ in range(size.layers)), ChannelNorm(size.hidden)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits."""
        x = self.stem(x)  # (N, stem, H/2, W/2)
        taps = [x]
        x = self.pool(x)  # (N, stem, H/4, W/4)
        for stage in self.encoder:
            x = stage(x)  # (N, stem * 4 * 2**n, H / 2**(n+2), W / 2**(n+2))
            taps.append(x)
        x = self.transformer(self.position(self.patches(x)))  # (N, hidden, H/16, W/16)
        x = self.bridge(x)  # (N, bridge, H/16, W/16)
        for up, conv, skip in zip(self.up, self.decoder, (*reversed(taps[:-1]), None), strict=True):
            x = up(x)  # (N, C, 2 * H, 2 * W)
            x = conv(x if skip is None else torch.cat((x, skip), dim=1))  # (N, decoder[n], H / 2**(3-n), W / 2**(3-n))
        logits: Tensor = self.clip(self.head(x))  # (N, classes, H, W)
        return logits
