"""UNeXt-S (Valanarasu & Patel 2022): three convolution stages, two stages of shifted MLPs, 8 .. 128 channels.

The network of edge_unet.models.unext, variant "s"; its docstring names the deviations (ReLU6 for ReLU, shifts and
linears written as convolutions, which is the same numbers, logits clipped to +-7.94).
"""

from __future__ import annotations

from torch import nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.models.unext import UNeXt


def unext_s(classes: int = 1) -> nn.Module:
    """(N, 3, H, W) -> (N, classes, H, W) logits. H, W: multiples of 32."""
    return UNeXt(ModelSpec(name="unext", variant="s", upsample="bilinear"), 3, classes)
