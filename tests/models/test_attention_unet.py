"""Attention U-Net: as large as its 2-D port, and its gates close."""

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

from edge_unet.canonical.rules import check_canonical
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build_whole
from edge_unet.models.attention_unet import AttentionUNet
from edge_unet.quantization.fold import trace_folded

SLIM = ModelSpec(name="attention_unet", base=8, depth=2)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return settled(SLIM)


@pytest.fixture(scope="module")
def file(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(quantized(net, SLIM), SLIM, tmp_path_factory.mktemp("attention_unet"))


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"),
    # The first row is published; channels of the others are its quarter and eighth.
    [
        ("attention_unet-64", 34.88e6, 66.42e9),
        ("attention_unet-16", 34.88e6 / 16, 66.42e9 / 16),
        ("attention_unet-8", 34.88e6 / 64, 66.42e9 / 64),
    ],
)
def test_size(preset: str, parameters: float, macs: float) -> None:
    found, multiplied = cost(PRESETS[preset])
    assert found == pytest.approx(parameters, rel=1e-2)
    assert multiplied == pytest.approx(macs, rel=2e-2)


def test_one_full_size_result_and_a_gradient_everywhere() -> None:
    found = build_whole(recipe_of(SLIM)).train()(pictures(2))
    assert found.shape == (2, 1, SIZE, SIZE)
    assert silent_parameters(SLIM) == []


def test_folded_and_plain_are_one_function(net: nn.Module) -> None:
    (folded,), (plain,) = heads_of(trace_folded(net), pictures()), heads_of(net, pictures())
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_a_closed_gate_lets_nothing_of_the_skip_through(net: nn.Module) -> None:
    assert isinstance(net, AttentionUNet)
    shut = settled(SLIM)
    assert isinstance(shut, AttentionUNet)
    for gate in shut.gate:
        nn.init.constant_(gate.psi[1].weight, 0.0)
        nn.init.constant_(gate.psi[1].bias, -200.0)  # sigmoid: exactly 0 in float32
    seen: list[torch.Tensor] = []
    for conv in shut.decoder:
        conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    heads_of(shut, pictures())
    for joined in seen:
        skip, coarse = joined.chunk(2, dim=1)
        assert not skip.any()
        assert coarse.any()


def test_the_file_keeps_every_rule_and_is_bit_equal_to_torch(file: Exported) -> None:
    assert check_canonical(file.graph) == ()
    assert file.graph.metadata.islands == {}
    assert file.undeclared == []
    assert {"Sigmoid", "Mul"} <= file.integer_ops
    assert file.lsb.max() == 0


def test_training_starts_to_learn() -> None:
    losses = losses_on_scenes(SLIM, 24)
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:2])
