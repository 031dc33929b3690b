"""ResUNet: Zhang's layout, with residuals that quantize."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from edge_unet.models.resunet import ResidualUnit


@pytest.mark.parametrize("stride", [1, 2])
def test_a_unit_is_its_shortcut_where_the_body_says_nothing(stride: int) -> None:
    torch.manual_seed(0)
    unit = ResidualUnit(4, 6, stride).eval()
    nn.init.zeros_(unit.body[1][1].weight)
    nn.init.constant_(unit.body[1][1].bias, 2.0)
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        # A 1x1 convolution of stride s reads every s-th pixel.
        straight = functional.conv2d(x[:, :, ::stride, ::stride], unit.shortcut[0].weight) / (1 + 1e-5) ** 0.5
        torch.testing.assert_close(unit(x), (straight + 2).clamp(0, 6), rtol=1e-5, atol=1e-5)
