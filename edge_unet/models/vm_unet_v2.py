"""VM-UNetV2 (Zhang et al. 2024): a VMamba encoder under the infusion decoder of U-Net v2.

4x4 patches, then four stages of VSS blocks at strides 4, 8, 16, 32, joined by patch merging; gated taps, infusions,
deconvolutions and heads are those of models/unet_v2.py. 2292: 22.8 M parameters, 5.34 G MACs at 256x256 without the
scans; 2222 and 22272 are the paper's other depths, tiny is ours. Variants ending in -paper have the published plain
products, the others bounded ones (models/sdi.py).

Deviations. Taps are what a stage gives; the official code takes what it is given, so that its last stage is computed
and never read. Every head's logits are resized to full size, and the accurate output is their mean; the official
code trains one fused map, out_full + ConvTranspose3x3(out_half), a learned form of that sum without levels to prune to.
No stochastic depth. For export: blocks as in models/vss.py, infusions as in models/sdi.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.core.recipe import ModelSpec
from edge_unet.core.registry import lookup, registry
from edge_unet.models.blocks import init_weights
from edge_unet.models.islands import FloatIsland
from edge_unet.models.norm import ChannelNorm
from edge_unet.models.sdi import Product
from edge_unet.models.unet_v2 import LEVELS, GatedTap, SdiDecoder, require_depth
from edge_unet.models.vss import VssBlock, start_projections

PATCH = 4


@dataclass(frozen=True, slots=True)
class VmSize:
    """Blocks per stage, channels of the first (they double from stage to stage), and of everything after the taps."""

    depths: tuple[int, int, int, int]
    base: int = 96
    channels: int = 48
    product: Product = "bounded"


SIZES: Mapping[str, VmSize] = registry(
    (
        ("tiny", VmSize((1, 1, 1, 1), 16, 16)),
        ("2222", VmSize((2, 2, 2, 2))),
        ("2292", VmSize((2, 2, 9, 2))),
        ("2292-paper", VmSize((2, 2, 9, 2), product="plain")),
        ("22272", VmSize((2, 2, 27, 2))),
    )
)
DEFAULT = "2292"

PRESETS = tuple(
    (f"vm_unet_v2-{variant}", ModelSpec(name="vm_unet_v2", variant=variant, upsample="bilinear", deep=True))
    for variant in SIZES
)


class MergeNorm(FloatIsland):
    """The four pixels of every 2x2 square as channels, then LayerNorm over them (Swin's patch merging)."""

    reason: ClassVar[str] = "variance over channels needs more than 8 bits; the slices in front of it only move values"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4 * channels))
        self.bias = nn.Parameter(torch.zeros(4 * channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4C, H/2, W/2): top left, bottom left, top right, bottom right."""
        last = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        squares = torch.cat([last[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], dim=3)  # (N, H/2, W/2, 4C)
        normed = functional.layer_norm(squares, self.weight.shape, self.weight, self.bias)
        return normed.permute(0, 3, 1, 2)  # (N, 4C, H/2, W/2)


class VMamba(nn.Module):
    """(N, in_channels, H, W) -> maps at strides 4, 8, 16, 32 with base * 2**i channels. H, W: multiples of 32."""

    def __init__(self, depths: tuple[int, ...], base: int, in_channels: int) -> None:
        super().__init__()
        self.join, self.stages = nn.ModuleList(), nn.ModuleList()
        for stage, depth in enumerate(depths):
            channels = base * 2**stage
            if stage:
                join = nn.Sequential(MergeNorm(channels // 2), nn.Conv2d(2 * channels, channels, 1, bias=False))
            else:
                join = nn.Sequential(nn.Conv2d(in_channels, channels, PATCH, PATCH), ChannelNorm(channels))
            self.join.append(join)
            self.stages.append(nn.Sequential(*(VssBlock(channels) for _ in range(depth))))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, in_channels, H, W) -> [(N, base * 2**i, H / 2**(i+2), W / 2**(i+2))]."""
        taps = []
        for join, stage in zip(self.join, self.stages, strict=True):
            x = stage(join(x))  # (N, base * 2**i, H / 2**(i+2), W / 2**(i+2))
            taps.append(x)
        return taps


class VMUNetV2(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (L1, …, L4, mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of 32.
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        require_depth(spec)
        size = lookup(SIZES, spec.variant or DEFAULT, "vm_unet_v2 variant")
        self.encoder = VMamba(size.depths, size.base, in_channels)
        self.taps = nn.ModuleList(GatedTap(size.base * 2**stage, size.channels) for stage in range(LEVELS))
        init_weights(self)
        start_projections(self)
        self.decoder = SdiDecoder(spec, size.channels, classes, size.product)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) normalised frame -> (L1, …, L4, mean), each (N, classes, H, W)."""
        maps = [tap(y) for tap, y in zip(self.taps, self.encoder(x), strict=True)]  # (N, C, H / 2**(i+2), …)
        levels: tuple[Tensor, ...] = self.decoder(maps)
        return levels
