"""Mobile U-Net v2: all INT8, so its canonical file is bit-equal to torch."""

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
from torch import fx, nn

from edge_unet.canonical.rules import check_canonical
from edge_unet.models import PRESETS, build_whole
from edge_unet.models.levels import cut_to_level, levels_of
from edge_unet.quantization.fold import trace_folded

SLIM = PRESETS["mobile_unet_v2-0.5"].model_copy(update={"width": 0.25})


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return settled(SLIM)


@pytest.fixture(scope="module")
def quantized_net(net: nn.Module) -> fx.GraphModule:
    return quantized(net, SLIM)


@pytest.fixture(scope="module")
def file(quantized_net: fx.GraphModule, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(quantized_net, SLIM, tmp_path_factory.mktemp("mobile_unet_v2"))


@pytest.mark.parametrize(
    ("preset", "backbone", "parameters", "macs"),
    # timm's MobileNetV2 features, without the decoder, are the published part of the sum.
    [
        ("mobile_unet_v2-1.0", (1.812e6, 0.365e9), 2_043_148, 0.5941e9),
        ("mobile_unet_v2-0.5", (0.480e6, 0.112e9), 540_700, 0.1700e9),
    ],
)
def test_size(preset: str, backbone: tuple[float, float], parameters: int, macs: float) -> None:
    found, multiplied = cost(PRESETS[preset])
    assert found == parameters
    assert multiplied == pytest.approx(macs, rel=1e-3)
    net = build_whole(recipe_of(PRESETS[preset])).get_submodule
    encoder = sum(p.numel() for part in ("stem", "encoder") for p in net(part).parameters())
    assert encoder == pytest.approx(backbone[0], rel=1e-2)


def test_five_full_size_results_and_a_gradient_everywhere() -> None:
    found = build_whole(recipe_of(SLIM)).train()(pictures(2))
    assert [head.shape for head in found] == [(2, 1, SIZE, SIZE)] * 5
    assert silent_parameters(SLIM) == []


def test_folded_and_plain_are_one_function(net: nn.Module) -> None:
    for folded, plain in zip(heads_of(trace_folded(net), pictures()), heads_of(net, pictures()), strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_levels_prune_exactly(net: nn.Module, quantized_net: fx.GraphModule) -> None:
    assert levels_of(net) == ("L1", "L2", "L3", "L4", "mean")
    for whole in (net, quantized_net):
        for level, expected in zip(levels_of(net), heads_of(whole, pictures()), strict=True):
            (found,) = heads_of(cut_to_level(whole, level), pictures())
            assert torch.equal(found, expected), level


def test_the_file_keeps_every_rule_without_an_island(file: Exported) -> None:
    assert check_canonical(file.graph) == ()
    assert file.graph.metadata.islands == {}
    assert file.float_ops == set()
    assert file.undeclared == []


def test_the_file_is_bit_equal_to_torch(file: Exported) -> None:
    assert file.lsb.max() == 0


def test_training_starts_to_learn() -> None:
    losses = losses_on_scenes(SLIM, 24)
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:2])
