"""Mobile VM-UNetV2: Mobile U-Net v2 with a VSS block on each of its two coarsest taps, where a scan is short.

At 256x256 the scans run over 256 positions (1/16) and 64 (1/32): the float states of one scan at 1/4, as VM-UNetV2
has them, would take 201 MB. A tap is gated and reduced to 32 channels (at width 1) first, so that a block has 64
channels inside. Variant ssd has one decay per head (Mamba-2) in place of one per channel and state. At width 1,
256x256, one class: PARAMS M parameters, MACS G MACs without the scans.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.core.registry import lookup, registry
from edge_unet.models.blocks import conv_bn, init_weights, round_to_8
from edge_unet.models.mobile_unet import mobilenet_v2
from edge_unet.models.mobile_unet_v2 import CHANNELS, MeanGate
from edge_unet.models.unet_v2 import LEVELS, SdiDecoder, require_depth
from edge_unet.models.vss import Form, VssBlock, start_projections

SCANNED = 2
"""Taps with a block, from the coarsest."""

FORMS: Mapping[str, Form] = registry((("selective", "selective"), ("ssd", "ssd")))
"""An empty variant is selective."""

PRESETS = tuple(
    (
        f"mobile_vm_unet_v2-{variant and f'{variant}-'}{width}",
        ModelSpec(name="mobile_vm_unet_v2", variant=variant, width=width, upsample="bilinear", deep=True),
    )
    for variant in ("", "ssd")
    for width in (0.5, 1.0)
)


class MobileVMUNetV2(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (L1, …, L4, mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of 32.
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        require_depth(spec)
        form = lookup(FORMS, spec.variant or "selective", "mobile_vm_unet_v2 variant")
        self.stem, self.encoder, widths = mobilenet_v2(in_channels, spec.width, spec.depth)
        channels = round_to_8(CHANNELS * spec.width)
        self.taps = nn.ModuleList()
        for number, cin in enumerate(widths[-LEVELS:]):
            tap: list[nn.Module] = [MeanGate(cin), conv_bn(cin, channels, 1, act=False)]
            if number >= LEVELS - SCANNED:
                tap.append(VssBlock(channels, form))
            self.taps.append(nn.Sequential(*tap))
        init_weights(self)
        start_projections(self)
        self.decoder = SdiDecoder(spec, channels, classes, "bounded")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) normalised frame -> (L1, …, L4, mean), each (N, classes, H, W)."""
        x = self.stem(x)  # (N, stem, H/2, W/2)
        made = []
        for level in self.encoder:
            x = level(x)  # (N, tap, H / 2**level, W / 2**level)
            made.append(x)
        maps = [tap(y) for tap, y in zip(self.taps, made[-LEVELS:], strict=True)]  # (N, C, H / 2**(i+2), …)
        levels: tuple[Tensor, ...] = self.decoder(maps)
        return levels
