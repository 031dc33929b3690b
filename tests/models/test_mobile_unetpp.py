"""Mobile UNet++: nested skips on MobileNetV2 taps, pruned exactly, encoder and all."""

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
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build_whole
from edge_unet.models.levels import cut_to_level, levels_of
from edge_unet.quantization.fold import trace_folded

SLIM = ModelSpec(name="mobile_unetpp", width=0.25, depth=3, deep=True)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return settled(SLIM)


@pytest.fixture(scope="module")
def quantized_net(net: nn.Module) -> fx.GraphModule:
    return quantized(net, SLIM)


@pytest.fixture(scope="module")
def file(quantized_net: fx.GraphModule, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(quantized_net, SLIM, tmp_path_factory.mktemp("mobile_unetpp"))


@pytest.mark.parametrize(
    ("preset", "backbone", "parameters", "macs"),
    # timm's MobileNetV2 features, without the decoder, are the published part of the sum.
    [
        ("mobile_unetpp-1.0", 1.812e6, 1_902_724, 0.5711e9),
        ("mobile_unetpp-0.5", 0.480e6, 507_380, 0.1808e9),
    ],
)
def test_size(preset: str, backbone: float, parameters: int, macs: float) -> None:
    found, multiplied = cost(PRESETS[preset])
    assert found == parameters
    assert multiplied == pytest.approx(macs, rel=1e-3)
    net = build_whole(recipe_of(PRESETS[preset])).get_submodule
    encoder = sum(p.numel() for part in ("stem", "encoder") for p in net(part).parameters())
    assert encoder == pytest.approx(backbone, rel=1e-2)


def test_full_size_results_and_a_gradient_everywhere() -> None:
    found = build_whole(recipe_of(SLIM)).train()(pictures(2))
    assert [head.shape for head in found] == [(2, 1, SIZE, SIZE)] * 3
    assert silent_parameters(SLIM) == []


def test_folded_and_plain_are_one_function(net: nn.Module) -> None:
    for folded, plain in zip(heads_of(trace_folded(net), pictures()), heads_of(net, pictures()), strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_levels_prune_exactly(net: nn.Module, quantized_net: fx.GraphModule) -> None:
    assert levels_of(net) == ("L1", "L2", "mean")
    for whole in (net, quantized_net):
        for level, expected in zip(levels_of(net), heads_of(whole, pictures()), strict=True):
            (found,) = heads_of(cut_to_level(whole, level), pictures())
            assert torch.equal(found, expected), level


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_level_keeps_its_triangle_of_nodes_and_its_part_of_the_encoder(depth: int) -> None:
    with torch.device("meta"):
        whole = build_whole(recipe_of(PRESETS["mobile_unetpp-0.5"]))
    names = [n.split(".") for n, _ in cut_to_level(whole, f"L{depth}").named_parameters()]
    assert {n[1] for n in names if n[0] == "encoder"} == {str(i) for i in range(depth + 1)}
    assert {n[1] for n in names if n[0] == "node"} == {
        f"{i}_{j}" for j in range(1, depth + 1) for i in range(depth + 1 - j)
    }


def test_the_file_keeps_every_rule_and_is_bit_equal_to_torch(file: Exported) -> None:
    assert check_canonical(file.graph) == ()
    assert file.graph.metadata.islands == {}
    assert file.undeclared == []
    assert file.lsb.max() == 0


def test_training_starts_to_learn() -> None:
    losses = losses_on_scenes(SLIM, 40, rate=5e-3)
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:2])
