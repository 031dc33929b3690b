"""Mobile VM-UNetV2 with both forms of its scan."""

from __future__ import annotations

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
from edge_unet.models import PRESETS, build, build_whole
from edge_unet.models.cost import cost_of
from edge_unet.models.islands import islands_of, trace
from edge_unet.models.levels import cut_to_level, levels_of
from edge_unet.quantization.fold import trace_folded

SLIM = {
    form: PRESETS[preset].model_copy(update={"width": 0.25})
    for form, preset in (("selective", "mobile_vm_unet_v2-0.5"), ("ssd", "mobile_vm_unet_v2-ssd-0.5"))
}


@pytest.fixture(scope="module", params=SLIM)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    return SLIM[request.param]


@pytest.fixture(scope="module")
def net(spec: ModelSpec) -> nn.Module:
    return settled(spec)


@pytest.fixture(scope="module")
def quantized_net(net: nn.Module, spec: ModelSpec) -> fx.GraphModule:
    return quantized(net, spec)


@pytest.fixture(scope="module")
def file(quantized_net: fx.GraphModule, spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(quantized_net, spec, tmp_path_factory.mktemp("mobile_vm_unet_v2"))


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"),
    [
        ("mobile_vm_unet_v2-1.0", 2_084_748, 0.5992e9),
        ("mobile_vm_unet_v2-ssd-1.0", 2_074_556, 0.6044e9),
        ("mobile_vm_unet_v2-0.5", 557_916, 0.1720e9),
        ("mobile_vm_unet_v2-ssd-0.5", 553_076, 0.1748e9),
    ],
)
def test_size_is_that_of_mobile_unet_v2_and_two_blocks(preset: str, parameters: int, macs: float) -> None:
    with torch.device("meta"):
        found, without = (
            cost_of(build_whole(recipe_of(PRESETS[name], 256)), 3, 256, 256)
            for name in (preset, f"mobile_unet_v2-{preset[-3:]}")
        )
    assert (found.parameters, found.macs) == (parameters, pytest.approx(macs, rel=1e-3))
    blocks = [m for n, m in build_whole(recipe_of(PRESETS[preset])).named_modules() if n in ("taps.2.2", "taps.3.2")]
    assert parameters - without.parameters == sum(p.numel() for block in blocks for p in block.parameters())


def test_scans_stand_only_where_they_are_short(net: nn.Module) -> None:
    scans = {path for path in islands_of(trace(net)) if path.endswith(".scan")}
    assert scans == {"taps.2.2.mix.scan", "taps.3.2.mix.scan"}  # 1/16 and 1/32: 256 and 64 positions at 256x256


def test_five_full_size_results_and_a_gradient_everywhere(spec: ModelSpec) -> None:
    found = build_whole(recipe_of(spec)).train()(pictures(2))
    assert [head.shape for head in found] == [(2, 1, SIZE, SIZE)] * 5
    assert silent_parameters(spec) == []


def test_folded_and_plain_are_one_function(net: nn.Module) -> None:
    for folded, plain in zip(heads_of(trace_folded(net), pictures()), heads_of(net, pictures()), strict=True):
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_levels_prune_exactly(net: nn.Module, quantized_net: fx.GraphModule) -> None:
    assert levels_of(net) == ("L1", "L2", "L3", "L4", "mean")
    for whole in (net, quantized_net):
        for level, expected in zip(levels_of(net), heads_of(whole, pictures()), strict=True):
            (found,) = heads_of(cut_to_level(whole, level), pictures())
            assert torch.equal(found, expected), level


@pytest.mark.slow
def test_the_file_keeps_every_rule_and_only_islands_are_float(file: Exported, net: nn.Module, spec: ModelSpec) -> None:
    assert check_canonical(file.graph) == ()
    assert file.graph.metadata.islands == islands_of(trace(net))
    assert file.undeclared == []
    readout = {"MatMul"} if spec.variant == "ssd" else {"ReduceSum"}
    assert file.float_ops == {
        "Transpose", "Reshape", "Unsqueeze", "Slice", "Concat", "LayerNormalization", "Sigmoid", "Softplus", "Exp",
        "Mul", "Add",
    } | readout  # fmt: skip
    assert max(len(shape) for shape in file.graph.shapes.values()) <= 5


@pytest.mark.slow
def test_the_file_gives_the_logits_of_torch(file: Exported) -> None:
    assert file.lsb.max() <= 1
    assert (file.lsb == 0).mean() >= 0.999


@pytest.mark.slow
def test_training_starts_to_learn(spec: ModelSpec) -> None:
    losses = losses_on_scenes(spec, 24)
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:2])


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown mobile_vm_unet_v2 variant 'mamba'"):
        build(recipe_of(ModelSpec(name="mobile_vm_unet_v2", variant="mamba")))
