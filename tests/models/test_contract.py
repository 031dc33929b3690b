"""The contract of every network, as thin as it goes: gradients, folding, exact levels, one file, learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from network_checks import (
    SIZE,
    SLIM,
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
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import MODELS, build_whole
from edge_unet.models.blocks import LOGIT_LIMIT
from edge_unet.models.islands import islands_of, trace
from edge_unet.models.levels import cut_to_level, levels_of
from edge_unet.quantization.fold import trace_folded

SCAN = {
    "Transpose", "Reshape", "Unsqueeze", "Slice", "Concat", "LayerNormalization", "Sigmoid", "Softplus", "Exp", "Mul",
    "Add",
}  # fmt: skip
ATTENTION = {"Transpose", "Reshape", "LayerNormalization", "Mul", "MatMul", "Softmax"}
FLOAT_OPS = {
    "unext": {"LayerNormalization", "Transpose"},
    "transunet": ATTENTION | {"Add"},  # the position embedding
    "unet_v2": ATTENTION,
    "vm_unet_v2": SCAN | {"ReduceSum"},
    "mobile_vm_unet_v2": SCAN | {"ReduceSum"},
    "mobile_vm_unet_v2-ssd": SCAN | {"MatMul"},
}
"""Ops inside declared islands; a network that is not listed has none and is bit-equal to torch."""

LEVELS = {
    "edge_unet": 4, "edge_unet-portable": 4, "unetpp": 3, "unet3p": 3, "unet3p-cgm": 3, "unet_v2": 4, "vm_unet_v2": 4,
    "mobile_unetpp": 2, "mobile_unet_v2": 4, "mobile_vm_unet_v2": 4, "mobile_vm_unet_v2-ssd": 4,
}  # fmt: skip
"""Heads of the slim network; one that is not listed has a single output."""

DEAF = {"unet3p-cgm": {"heads.presence.conv.weight", "heads.presence.conv.bias"}}
"""What segmentation alone does not move: the guide starts open, where its ramp is flat; its own loss moves it."""

STEPS = {"mobile_unetpp": (40, 5e-3), "vm_unet_v2": (16, 2e-3)}
"""(steps, learning rate) where 24 and 2e-3 are not right."""


@dataclass(frozen=True)
class Case:
    """One network: in float, with calibrated fake-quant, and as a canonical file."""

    name: str
    spec: ModelSpec
    net: nn.Module
    quantized: fx.GraphModule
    file: Exported


@pytest.fixture(scope="module", params=SLIM)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    spec = SLIM[request.param]
    net = settled(spec)
    made = quantized(net, spec)
    return Case(request.param, spec, net, made, exported(made, spec, tmp_path_factory.mktemp("contract")))


def test_every_network_is_under_contract() -> None:
    assert {spec.name for spec in SLIM.values()} == set(MODELS)


@pytest.mark.parametrize("name", SLIM)
def test_a_gradient_reaches_every_weight_and_logits_stay_in_range(name: str) -> None:
    assert set(silent_parameters(SLIM[name])) == DEAF.get(name, set())
    torch.manual_seed(0)
    found = build_whole(recipe_of(SLIM[name])).train()(pictures(2))
    heads = found if isinstance(found, tuple) else (found,)
    assert [head.shape for head in heads] == [(2, 1, SIZE, SIZE)] * (LEVELS[name] + 1 if name in LEVELS else 1)
    assert all(head.abs().max() <= LOGIT_LIMIT for head in heads)


@pytest.mark.slow
def test_folded_and_plain_are_one_function(case: Case) -> None:
    for folded, plain in zip(heads_of(trace_folded(case.net), pictures()), heads_of(case.net, pictures()), strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_level_is_that_head_of_the_whole(case: Case) -> None:
    names = (*(f"L{n + 1}" for n in range(LEVELS[case.name])), "mean") if case.name in LEVELS else ()
    for whole in (case.net, case.quantized):
        assert levels_of(whole) == names
        for level, expected in zip(names, heads_of(whole, pictures()), strict=bool(names)):
            (found,) = heads_of(cut_to_level(whole, level), pictures())
            assert torch.equal(found, expected), level


@pytest.mark.slow
def test_the_file_keeps_every_rule_and_only_islands_are_float(case: Case) -> None:
    assert check_canonical(case.file.graph) == ()
    assert case.file.undeclared == []
    assert case.file.graph.metadata.islands == islands_of(trace(case.net))
    assert case.file.float_ops == FLOAT_OPS.get(case.name, set())
    assert max(len(shape) for shape in case.file.graph.shapes.values()) <= 5  # Core ML and LiteRT take no more


@pytest.mark.slow
def test_the_file_gives_the_logits_of_torch(case: Case) -> None:
    if case.name in FLOAT_OPS:
        # A float LayerNorm may round a value on the edge of two codes the other way.
        assert case.file.lsb.max() <= 1
        assert (case.file.lsb == 0).mean() >= 0.999
    else:
        assert case.file.lsb.max() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", SLIM)
def test_training_starts_to_learn(name: str) -> None:
    losses = losses_on_scenes(SLIM[name], *STEPS.get(name, (24, 2e-3)))
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:2])
