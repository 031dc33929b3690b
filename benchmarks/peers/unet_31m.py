"""U-Net with 31 M parameters (Ronneberger, Fischer, Brox 2015): 64 .. 1024 channels, 2x2 up-convolutions.

The network of edge_unet.models.unet at base 64. Deviations from the paper, all of which its ports share or that cost no
time: same padding, BN, ReLU6 for ReLU, no dropout, logits clipped to +-7.94.
"""

from __future__ import annotations

from torch import nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.models.blocks import init_head
from edge_unet.models.unet import UNet


def unet_31m(classes: int = 1) -> nn.Module:
    """(N, 3, H, W) -> (N, classes, H, W) logits. H, W: multiples of 16."""
    net = UNet(ModelSpec(name="unet", base=64, depth=4, upsample="deconv"), 3, classes)
    init_head(net.head)
    return net
