"""VM-UNetV2: as large as published, trainable, prunable, and exact as a canonical file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from network_checks import (
    SIZE,
    Exported,
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
from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build, build_whole, vm_unet_v2
from edge_unet.models.blocks import LOGIT_LIMIT
from edge_unet.models.cost import cost_of
from edge_unet.models.islands import islands_of, trace
from edge_unet.models.levels import cut_to_level, levels_of
from edge_unet.quantization.fold import trace_folded

TINY = PRESETS["vm_unet_v2-tiny"]
DISCARDED = 48 * 48 * 16 + 10
"""Parameters of the official class that are not of the network: a deconvolution that is never called, and the
transposed convolution of its fused supervision."""


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return settled(TINY)


@pytest.fixture(scope="module")
def quantized_net(net: nn.Module) -> fx.GraphModule:
    return quantized(net, TINY)


@pytest.fixture(scope="module")
def file(quantized_net: fx.GraphModule, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(quantized_net, TINY, tmp_path_factory.mktemp("vm_unet_v2"))


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"),
    [
        ("vm_unet_v2-2292", 22.771e6, 5.34e9),
        ("vm_unet_v2-2292-paper", 22.771e6, 5.34e9),
        ("vm_unet_v2-2222", 14.40e6, 3.30e9),
        ("vm_unet_v2-22272", 44.29e6, 10.58e9),
        ("vm_unet_v2-tiny", 356_092 + DISCARDED, 0.1313e9),
    ],
)
def test_size_is_the_official_code_s(preset: str, parameters: float, macs: float) -> None:
    with torch.device("meta"):
        found = cost_of(build_whole(recipe_of(PRESETS[preset], 256)), 3, 256, 256)
    assert found.parameters + DISCARDED == pytest.approx(parameters, rel=5e-4)
    assert found.macs == pytest.approx(macs, rel=2e-3)


@pytest.mark.parametrize("product", ["bounded", "plain"])
def test_five_full_size_results_and_a_gradient_everywhere(product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"tiny": replace(vm_unet_v2.SIZES["tiny"], product=product)}
    monkeypatch.setattr(vm_unet_v2, "SIZES", sizes)
    found = build_whole(recipe_of(TINY)).train()(pictures(2))
    assert [head.shape for head in found] == [(2, 1, SIZE, SIZE)] * 5
    assert all(head.abs().max() <= LOGIT_LIMIT for head in found)
    assert silent_parameters(TINY) == []


def test_it_takes_frames_that_are_not_square(net: nn.Module) -> None:
    assert [head.shape for head in heads_of(net, torch.zeros(1, 3, 32, 96))] == [(1, 1, 32, 96)] * 5


def test_folded_and_plain_are_one_function(net: nn.Module) -> None:
    for folded, plain in zip(heads_of(trace_folded(net), pictures()), heads_of(net, pictures()), strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_levels_prune_exactly_and_leave_nothing_behind(net: nn.Module, quantized_net: fx.GraphModule) -> None:
    assert levels_of(net) == ("L1", "L2", "L3", "L4", "mean")
    for whole in (net, quantized_net):
        for level, expected in zip(levels_of(net), heads_of(whole, pictures()), strict=True):
            (found,) = heads_of(cut_to_level(whole, level), pictures())
            assert torch.equal(found, expected), level
    left = {n for n, _ in cut_to_level(net, "L1").named_modules()}
    assert "decoder.infuse.3" in left
    assert not any(n.startswith(("decoder.infuse.2", "decoder.up", "decoder.heads.convs.1")) for n in left)


@pytest.mark.slow
def test_the_file_keeps_every_rule_and_only_islands_are_float(file: Exported, net: nn.Module) -> None:
    assert check_canonical(file.graph) == ()
    assert file.graph.metadata.islands == islands_of(trace(net))
    assert file.undeclared == []
    assert file.float_ops == {
        "Transpose", "Reshape", "Unsqueeze", "Slice", "Concat", "LayerNormalization", "Sigmoid", "Softplus", "Exp",
        "Mul", "Add", "ReduceSum",
    }  # fmt: skip
    assert sum(n.op == "Softplus" for n in file.graph.nodes) == 4  # one scan per block
    assert sum(n.op == "LayerNormalization" for n in file.graph.nodes) == 4 * 3  # entry, block, gate
    assert max(len(shape) for shape in file.graph.shapes.values()) <= 5


@pytest.mark.slow
def test_the_file_gives_the_logits_of_torch(file: Exported) -> None:
    assert file.lsb.max() <= 1
    assert (file.lsb == 0).mean() >= 0.999


@pytest.mark.slow
def test_training_starts_to_learn() -> None:
    losses = losses_on_scenes(TINY, 16)
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:2])


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown vm_unet_v2 variant '2229'"):
        build(recipe_of(ModelSpec(name="vm_unet_v2", variant="2229")))
    with pytest.raises(UsageError, match=r"model\.depth = 5, received 4"):
        build(recipe_of(ModelSpec(name="vm_unet_v2", variant="tiny", depth=4)))
