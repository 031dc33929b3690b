"""Mobile VM-UNetV2: Mobile U-Net v2 with a VSS block on each of its two coarsest taps, where a scan is short.

At 256x256 the scans run over 256 positions (1/16) and 64 (1/32): the float states of one scan at 1/4, as VM-UNetV2
has them, would take 201 MB. A tap is gated and reduced to 32 channels (at width 1) first, so that a block has 64
channels inside. Variant ssd has one decay per head (Mamba-2) in place of one per channel and state. At width 1,
256x256, one class: PARAMS M parameters, MACS G MACs without the scans.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.core.registry import lookup, registry
from edge_unet.models.mobile_unet_v2 import MobileUNetV2
from edge_unet.models.unet_v2 import LEVELS
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


class MobileVMUNetV2(MobileUNetV2):
    """(N, in_channels, H, W) normalised frame -> (L1, …, L4, mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of 32.
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        self.form = lookup(FORMS, spec.variant or "selective", "mobile_vm_unet_v2 variant")
        super().__init__(spec, in_channels, classes)
        start_projections(self)

    def tap(self, number: int, cin: int, channels: int) -> list[nn.Module]:
        """As in Mobile U-Net v2, with a scan behind the coarse ones."""
        scan = [VssBlock(channels, self.form)] if number >= LEVELS - SCANNED else []
        return [*super().tap(number, cin, channels), *scan]
