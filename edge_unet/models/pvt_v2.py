"""PVTv2 (Wang et al. 2022, CVMJ; official code), the encoder of U-Net v2: taps at strides 4, 8, 16, 32.

Per stage an overlapping patch embedding, blocks of spatial-reduction attention and a feed-forward layer with a 3x3
depthwise convolution, and a LayerNorm. B0: 3.41 M parameters, B2: 24.85 M, without the classifier. Deviations for
export: maps instead of token sequences, so that every linear layer is a 1x1 convolution in INT8; key and value are two
convolutions instead of one whose result is split (each has its own scale); LayerNorm and attention are float islands;
no stochastic depth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from edge_unet.core.registry import registry
from edge_unet.models.norm import ChannelNorm
from edge_unet.models.transformer import TokenAttention, linear


@dataclass(frozen=True, slots=True)
class PvtSize:
    """One entry per stage. `reductions` is the stride at which keys and values are taken, `expand` the factor of the
    feed-forward layer's channels."""

    channels: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int] = (1, 2, 5, 8)
    reductions: tuple[int, int, int, int] = (8, 4, 2, 1)
    expand: tuple[int, int, int, int] = (8, 8, 4, 4)


PVT_SIZES: Mapping[str, PvtSize] = registry(
    (
        ("tiny", PvtSize((16, 32, 80, 128), (1, 1, 1, 1), expand=(4, 4, 4, 4))),
        ("b0", PvtSize((32, 64, 160, 256), (2, 2, 2, 2))),
        ("b2", PvtSize((64, 128, 320, 512), (3, 4, 6, 3))),
    )
)
"""tiny is ours: half of B0's channels and one block per stage, which trains on a CPU."""


class ReducedAttention(nn.Module):
    """Attention whose keys and values come from the map at 1 / `reduction` (PVT's spatial reduction)."""

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.query = linear(channels, channels)
        self.reduce: nn.Module = nn.Identity()
        if reduction > 1:
            self.reduce = nn.Sequential(
                spatial(nn.Conv2d(channels, channels, reduction, reduction)), ChannelNorm(channels)
            )
        self.key, self.value = linear(channels, channels), linear(channels, channels)
        self.attention = TokenAttention(heads)
        self.project = linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        reduced = self.reduce(x)  # (N, C, H / reduction, W / reduction)
        y: Tensor = self.project(self.attention(self.query(x), self.key(reduced), self.value(reduced)))
        return y


class PvtBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, channels: int, heads: int, reduction: int, expand: int) -> None:
        super().__init__()
        hidden = channels * expand
        self.norm = ChannelNorm(channels)
        self.mix = ReducedAttention(channels, heads, reduction)
        self.feed = nn.Sequential(
            ChannelNorm(channels),
            linear(channels, hidden),
            spatial(nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)),
            nn.GELU(),
            linear(hidden, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        x = x + self.mix(self.norm(x))
        y: Tensor = x + self.feed(x)
        return y


class PvtV2(nn.Module):
    """(N, in_channels, H, W) -> maps at strides 4, 8, 16, 32 with `size.channels`. H, W: multiples of 32."""

    def __init__(self, size: PvtSize, in_channels: int) -> None:
        super().__init__()
        self.embed, self.stages, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        before = in_channels
        rows = zip(size.channels, size.depths, size.heads, size.reductions, size.expand, strict=True)
        for stage, (channels, depth, heads, reduction, expand) in enumerate(rows):
            kernel, stride = (3, 2) if stage else (7, 4)
            patches = spatial(nn.Conv2d(before, channels, kernel, stride, kernel // 2))
            self.embed.append(nn.Sequential(patches, ChannelNorm(channels)))
            self.stages.append(nn.Sequential(*(PvtBlock(channels, heads, reduction, expand) for _ in range(depth))))
            self.norms.append(ChannelNorm(channels))
            before = channels

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> [(N, channels[i], H / 2**(i+2), W / 2**(i+2))]."""
        taps = []
        for embed, stage, norm in zip(self.embed, self.stages, self.norms, strict=True):
            x = norm(stage(embed(x)))  # (N, channels[i], H / 2**(i+2), W / 2**(i+2))
            taps.append(x)
        return taps


def spatial(conv: nn.Conv2d) -> nn.Conv2d:
    """PVT's start for convolutions: N(0, 2 / fan-out of one group), zero bias."""
    fan_out = conv.kernel_size[0] * conv.kernel_size[1] * conv.out_channels // conv.groups
    nn.init.normal_(conv.weight, std=math.sqrt(2 / fan_out))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
