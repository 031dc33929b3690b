"""Pruning: a level computes its head of the whole network, and nothing of another branch is left."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, fx, nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec, Recipe
from edge_unet.core.spec import PreprocessSpec
from edge_unet.graph.from_torch import export_canonical
from edge_unet.models import build
from edge_unet.models.checkpoint import Checkpoint, CheckpointInfo
from edge_unet.models.islands import FloatIsland, islands_of, trace
from edge_unet.models.levels import cut_to_level, levels_of
from edge_unet.quantization import calibrate, prepare
from edge_unet.quantization.ptq import quantize_ptq
from edge_unet.quantization.restore import build_quantized, restore

SPEC = ModelSpec(name="unetpp", base=8, depth=3, upsample="deconv", deep=True)
LEVELS = ("L1", "L2", "L3", "mean")


def recipe(level: str | None = None) -> Recipe:
    model = SPEC.model_copy(update={"level": level})
    return Recipe(model=model, preprocess=PreprocessSpec(height=32, width=32))


@pytest.fixture(scope="module")
def frames() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return (torch.randint(0, 256, (2, 3, 32, 32), generator=generator) - 128) / 64


@pytest.fixture(scope="module")
def whole(frames: Tensor) -> nn.Module:
    torch.manual_seed(0)
    net = build(recipe()).train()
    with torch.no_grad():
        for _ in range(5):
            net(frames)
    return net.eval()


@pytest.fixture(scope="module")
def quantized(whole: nn.Module, frames: Tensor) -> fx.GraphModule:
    net = prepare(whole, recipe())
    calibrate(net, [frames], "minmax")
    return net.eval()


def nodes_of(net: nn.Module) -> set[tuple[int, int]]:
    """(i, j) of every X[i, j] whose weights are left."""
    names = {n.split(".")[1] for n, _ in net.named_parameters() if n.startswith("node.")}
    return {(int(i), int(j)) for i, j in (name.split("_") for name in names)}


def test_a_deep_network_has_its_levels_and_a_plain_one_has_none(whole: nn.Module) -> None:
    assert levels_of(whole) == LEVELS
    assert levels_of(build(Recipe())) == ()
    shallow = build(
        Recipe(model=SPEC.model_copy(update={"deep": False}), preprocess=PreprocessSpec(height=32, width=32))
    )
    assert levels_of(shallow) == ()
    assert [n for n, _ in shallow.named_parameters() if n.startswith("heads.")] == [
        "heads.convs.2.weight",
        "heads.convs.2.bias",
    ]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_pruned_unetpp_is_one_of_that_depth(whole: nn.Module, depth: int) -> None:
    pruned = cut_to_level(whole, f"L{depth}")
    assert nodes_of(pruned) == {(i, j) for i in range(depth + 1) for j in range(depth + 1 - i)}


@pytest.mark.parametrize("place", range(4))
def test_a_level_equals_its_head(whole: nn.Module, quantized: fx.GraphModule, frames: Tensor, place: int) -> None:
    with torch.no_grad():
        for net in (whole, quantized):
            assert torch.equal(cut_to_level(net, LEVELS[place])(frames), net(frames)[place])


def test_the_mean_is_that_of_the_logits(whole: nn.Module, frames: Tensor) -> None:
    with torch.no_grad():
        *heads, mean = whole(frames)
    torch.testing.assert_close(mean, torch.stack(heads).mean(0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_a_pruned_checkpoint_restores(whole: nn.Module, quantized: fx.GraphModule, frames: Tensor, level: str) -> None:
    for net, kind in ((whole, "fp32"), (quantized, "qat")):
        pruned = cut_to_level(net, level)
        info = CheckpointInfo.model_validate({"kind": kind, "recipe": recipe(level)})
        again = restore(Checkpoint(info, pruned.state_dict(), "0" * 64))
        with torch.no_grad():
            assert torch.equal(again(frames), pruned(frames))


def test_pruning_before_and_after_quantization_gives_the_same_grids(whole: nn.Module, frames: Tensor) -> None:
    pixels = (frames * 64 + 128).permute(0, 2, 3, 1).to(torch.uint8).numpy()
    info = CheckpointInfo(kind="fp32", recipe=recipe("L1"))
    before = Checkpoint(info, cut_to_level(whole, "L1").state_dict(), "0" * 64)
    net, made = quantize_ptq(before, pixels, recipe().quantize)
    again = restore(Checkpoint(made, net.state_dict(), "0" * 64))
    assert set(again.state_dict()) == set(build_quantized(recipe("L1")).state_dict())
    with torch.no_grad():
        assert torch.equal(again(frames), net(frames))


@pytest.mark.parametrize("level", LEVELS)
def test_the_exported_level_holds_nothing_of_another_branch(
    quantized: fx.GraphModule, level: str, tmp_path: Path
) -> None:
    pruned = cut_to_level(quantized, level)
    info = CheckpointInfo(kind="qat", recipe=recipe(level))
    export_canonical(pruned, info, None, tmp_path / "a.onnx")
    graph = onnx.load(tmp_path / "a.onnx").graph
    weights = {i.name for i in graph.initializer if i.name.endswith(".weight")}
    convs = [n for n, m in pruned.named_modules() if hasattr(m, "weight_quant")]
    assert weights == {f"{name}.weight" for name in convs}
    assert [o.name for o in graph.output] == ["logits"]


def test_an_unknown_level_is_refused(whole: nn.Module) -> None:
    with pytest.raises(UsageError, match=r"no level 'L4'; known: L1, L2, L3, mean"):
        cut_to_level(whole, "L4")
    with pytest.raises(UsageError, match="one head and nothing to prune"):
        cut_to_level(build(Recipe()), "L1")


class Halve(FloatIsland):
    """x / 2 in float."""

    reason = "a test"

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x / 2


class Islands(nn.Module):
    """Two islands in a row, a convolution behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Halve(), Halve()
        self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 1, H, W)."""
        y: Tensor = self.head(self.second(self.first(self.stem(x))))
        return y


class TestIslands:
    def test_they_are_leaves_with_a_reason(self) -> None:
        assert islands_of(trace(Islands())) == {"first": "a test", "second": "a test"}

    def test_only_what_leaves_them_is_quantized(self) -> None:
        net = prepare(Islands(), recipe())
        sites = [str(n.args[0]) for n in net.graph.nodes if str(n.target).startswith("quant.")]
        assert sites == ["x", "stem", "second", "head"]
