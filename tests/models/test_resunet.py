"""ResUNet: Zhang's layout, with residuals that quantize."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_checks import (
    SIZE,
    Exported,
    cost,
    exported,
    heads_of,
    losses_on_scenes,
    pictures,
    quantized,
    recipe_of,
    settled,
    silent_parameters,
)
from torch import nn
from torch.nn import functional

from edge_unet.canonical.rules import check_canonical
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build_whole
from edge_unet.models.resunet import ResidualUnit
from edge_unet.quantization.fold import trace_folded

SLIM = ModelSpec(name="resunet", base=8, depth=2)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return settled(SLIM)


@pytest.fixture(scope="module")
def file(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(quantized(net, SLIM), SLIM, tmp_path_factory.mktemp("resunet"))


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"),
    # The first row is the layout's; the second has a quarter of its channels.
    [("resunet-64", 8.22e6, 45.23e9), ("resunet-16", 8.22e6 / 16, 45.23e9 / 16)],
)
def test_size(preset: str, parameters: float, macs: float) -> None:
    found, multiplied = cost(PRESETS[preset])
    assert found == pytest.approx(parameters, rel=1e-2)
    assert multiplied == pytest.approx(macs, rel=2e-2)


def test_one_full_size_result_and_a_gradient_everywhere() -> None:
    found = build_whole(recipe_of(SLIM)).train()(pictures(2))
    assert found.shape == (2, 1, SIZE, SIZE)
    assert silent_parameters(SLIM) == []


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


def test_folded_and_plain_are_one_function(net: nn.Module) -> None:
    (folded,), (plain,) = heads_of(trace_folded(net), pictures()), heads_of(net, pictures())
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_the_file_keeps_every_rule_and_is_bit_equal_to_torch(file: Exported) -> None:
    assert check_canonical(file.graph) == ()
    assert file.graph.metadata.islands == {}
    assert file.undeclared == []
    assert "Add" in file.integer_ops
    assert file.lsb.max() == 0


def test_training_starts_to_learn() -> None:
    losses = losses_on_scenes(SLIM, 24)
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:2])
