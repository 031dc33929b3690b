"""U-Net v2: as large as published, trainable, prunable, and exact as a canonical file."""

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
from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build, build_whole
from edge_unet.models.blocks import LOGIT_LIMIT
from edge_unet.models.islands import islands_of, trace
from edge_unet.models.levels import cut_to_level, levels_of
from edge_unet.quantization.fold import trace_folded

TINY = PRESETS["unet_v2-tiny"]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return settled(TINY)


@pytest.fixture(scope="module")
def quantized_net(net: nn.Module) -> fx.GraphModule:
    return quantized(net, TINY)


@pytest.fixture(scope="module")
def file(quantized_net: fx.GraphModule, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(quantized_net, TINY, tmp_path_factory.mktemp("unet_v2"))


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"),
    [
        # Published layout, counted from the official code; it has a fifth deconvolution (16,384) that it never calls.
        ("unet_v2-b2", 25.145e6, 5.555e9),
        ("unet_v2-b2-paper", 25.145e6, 5.555e9),
        ("unet_v2-b0", 3.637e6, 0.987e9),
        ("unet_v2-tiny", 541_884, 0.1606e9),
    ],
)
def test_size(preset: str, parameters: float, macs: float) -> None:
    found, multiplied = cost(PRESETS[preset])
    assert found == pytest.approx(parameters, rel=1e-2)
    assert multiplied == pytest.approx(macs, rel=1e-2)


@pytest.mark.parametrize("variant", ["tiny", "b2-paper"])
def test_five_full_size_results_and_a_gradient_everywhere(variant: str) -> None:
    spec = TINY.model_copy(update={"variant": variant})
    found = build_whole(recipe_of(spec)).train()(pictures(2))
    assert [head.shape for head in found] == [(2, 1, SIZE, SIZE)] * 5
    assert all(head.abs().max() <= LOGIT_LIMIT for head in found)
    assert silent_parameters(spec) == []


def test_folded_and_plain_are_one_function(net: nn.Module) -> None:
    for folded, plain in zip(heads_of(trace_folded(net), pictures()), heads_of(net, pictures()), strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_levels_prune_exactly_and_leave_nothing_behind(net: nn.Module, quantized_net: fx.GraphModule) -> None:
    assert levels_of(net) == ("L1", "L2", "L3", "L4", "mean")
    for whole in (net, quantized_net):
        for level, expected in zip(levels_of(net), heads_of(whole, pictures()), strict=True):
            (found,) = heads_of(cut_to_level(whole, level), pictures())
            assert torch.equal(found, expected), level
    left = {n for n, _ in cut_to_level(net, "L1").named_modules() if n.startswith("decoder.")}
    assert "decoder.infuse.3" in left
    assert not any(n.startswith(("decoder.infuse.2", "decoder.up", "decoder.heads.convs.1")) for n in left)


def test_without_deep_supervision_the_finest_head_is_left(net: nn.Module) -> None:
    torch.manual_seed(0)
    single = build(recipe_of(TINY.model_copy(update={"deep": False})))
    assert isinstance(heads_of(single, pictures())[0], torch.Tensor)
    assert "decoder.heads.convs.3.weight" in single.state_dict()
    assert "decoder.heads.convs.0.weight" not in single.state_dict()


def test_the_file_keeps_every_rule_and_only_islands_are_float(file: Exported, net: nn.Module) -> None:
    assert check_canonical(file.graph) == ()
    assert file.graph.metadata.islands == islands_of(trace(net))
    assert file.float_ops == {"Transpose", "Reshape", "LayerNormalization", "Mul", "MatMul", "Softmax"}
    assert file.undeclared == []
    norms = sum(n.op == "LayerNormalization" for n in file.graph.nodes)
    assert norms == 4 * (1 + 2 + 1) + 3  # per stage: embedding, block, end; and three spatial reductions
    assert {"Gelu", "ReduceMax", "GlobalAveragePool", "ConvTranspose", "Resize"} < file.integer_ops


def test_the_file_gives_the_logits_of_torch(file: Exported) -> None:
    assert file.lsb.max() <= 1
    assert (file.lsb == 0).mean() >= 0.999


def test_training_starts_to_learn() -> None:
    losses = losses_on_scenes(TINY, 24)
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:2])


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown unet_v2 variant 'b1'"):
        build(recipe_of(ModelSpec(name="unet_v2", variant="b1")))
    with pytest.raises(UsageError, match=r"model\.depth = 5, received 4"):
        build(recipe_of(ModelSpec(name="unet_v2", depth=4)))
    with pytest.raises(UsageError, match="nearest or bilinear"):
        build(recipe_of(ModelSpec(name="unet_v2", upsample="deconv")))
