"""U-Net v2 (Peng, Sonka, Chen 2023; ISBI 2025): PVTv2 under semantics-and-detail infusion.

Each of the four taps goes through a channel gate, a spatial gate and a 1x1 convolution with BN (no activation: the
official code never applies the one it declares); four infusions; 4x4 stride 2 deconvolutions with adds from 1/32 to
1/4; a 1x1 head per level. L1 is the head at 1/32, L4 that at 1/4. Variant b2-paper has the published plain products,
the others bounded ones (models/sdi.py). b2: 25.1 M parameters, 5.56 G MACs at 256x256. Other deviations for export:
those of models/pvt_v2.py; mean and resize by fixed factors instead of adaptive pooling and align_corners; every
head's logits are resized to full size (official: x4, four sizes), and the accurate output is their mean (official: the
sum of the two finest).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.core.registry import lookup, registry
from edge_unet.models.attention import ChannelAttention, SpatialAttention
from edge_unet.models.blocks import Heads, conv_bn, init_weights, resizing
from edge_unet.models.pvt_v2 import PVT_SIZES, PvtV2
from edge_unet.models.sdi import Infusion, Product, start_infusions

LEVELS = 4
DEPTH = 5
"""Four taps end at 1/32."""


@dataclass(frozen=True, slots=True)
class UNetV2Size:
    """Which PVTv2, and the channels of everything after its taps."""

    encoder: str
    channels: int = 32
    product: Product = "bounded"


SIZES: Mapping[str, UNetV2Size] = registry(
    (
        ("tiny", UNetV2Size("tiny", 16)),
        ("b0", UNetV2Size("b0")),
        ("b2", UNetV2Size("b2")),
        ("b2-paper", UNetV2Size("b2", product="plain")),
    )
)
"""An empty variant is tiny, which trains on a CPU."""

PRESETS = tuple(
    (f"unet_v2-{variant}", ModelSpec(name="unet_v2", variant=variant, upsample="bilinear", deep=True))
    for variant in SIZES
)


class SdiDecoder(nn.Module):
    """Four infusions, deconvolutions with adds from the coarsest to the finest of four maps, and a head on each."""

    def __init__(self, spec: ModelSpec, channels: int, classes: int, product: Product) -> None:
        super().__init__()
        mode = resizing(spec.upsample, spec.name)
        self.infuse = nn.ModuleList(Infusion(channels, own, LEVELS, mode, product) for own in range(LEVELS))
        self.up = nn.ModuleList(nn.ConvTranspose2d(channels, channels, 4, 2, 1, bias=False) for _ in range(LEVELS - 1))
        self.heads = Heads([channels] * LEVELS, [2**n for n in range(DEPTH, 1, -1)], classes)
        init_weights(self)
        start_infusions(self)
        for head in (m for m in self.heads.convs if isinstance(m, nn.Conv2d)):
            nn.init.normal_(head.weight, std=channels**-0.5)  # He's, over one class, saturates the logits' clip

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """[(N, C, H / 2**(i+2), W / 2**(i+2))], finest first -> (L1, …, L4, mean), each (N, classes, H, W)."""
        x = self.infuse[-1](maps)  # (N, C, H/32, W/32)
        made = [x]
        for up, infuse in zip(self.up, reversed(self.infuse[:-1]), strict=True):
            x = up(x) + infuse(maps)  # (N, C, H/16, W/16), then 1/8, 1/4
            made.append(x)
        levels: tuple[Tensor, ...] = self.heads(made)
        return levels


class GatedTap(nn.Module):
    """x * channel gate, * spatial gate, then 1x1 convolution and BN."""

    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.channel, self.spatial = ChannelAttention(cin), SpatialAttention(cin)
        self.reduce = conv_bn(cin, cout, 1, act=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H, W)."""
        x = x * self.channel(x)
        x = x * self.spatial(x)
        y: Tensor = self.reduce(x)  # (N, cout, H, W)
        return y


class UNetV2(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (L1, …, L4, mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of 32.
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        require_depth(spec)
        size = lookup(SIZES, spec.variant or "tiny", "unet_v2 variant")
        encoder = lookup(PVT_SIZES, size.encoder, "PVTv2 size")
        self.taps = nn.ModuleList(GatedTap(cin, size.channels) for cin in encoder.channels)
        init_weights(self)
        self.encoder = PvtV2(encoder, in_channels)
        self.decoder = SdiDecoder(spec, size.channels, classes, size.product)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) normalised frame -> (L1, …, L4, mean), each (N, classes, H, W)."""
        maps = [tap(y) for tap, y in zip(self.taps, self.encoder(x), strict=True)]  # (N, C, H / 2**(i+2), …)
        levels: tuple[Tensor, ...] = self.decoder(maps)
        return levels


def require_depth(spec: ModelSpec) -> None:
    """Raises UsageError where the recipe asks for another depth than the four taps have."""
    if spec.depth != DEPTH:
        raise UsageError(f"{spec.name} always reaches 1/32; expected model.depth = {DEPTH}, received {spec.depth}")
