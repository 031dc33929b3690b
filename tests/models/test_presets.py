"""Every preset: shape, gradients, exact levels of a pruned checkpoint, and one set of integers on every target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from network_checks import SIZE, pictures, recipe_of, silent_parameters
from torch import Tensor

from edge_unet.core.recipe import ModelSpec
from edge_unet.models import MODELS, PRESETS, build, build_whole
from edge_unet.models.checkpoint import load_checkpoint
from edge_unet.models.cost import cost_of
from edge_unet.models.levels import cut_to_level, levels_of
from edge_unet.pipeline.matrix import MatrixRow, quick_checkpoint, rows_of
from edge_unet.pipeline.prune import prune_checkpoint
from edge_unet.quantization.restore import restore
from edge_unet.targets.registry import TARGETS

LARGE = 5_000_000
"""Parameters beyond which a preset is only shaped on the meta device: same code, other channel counts."""


def parameters(spec: ModelSpec) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_whole(recipe_of(spec)).parameters())


def smallest() -> Mapping[str, str]:
    """Network -> its smallest preset."""
    found: dict[str, tuple[int, str]] = {}
    for name, spec in PRESETS.items():
        found[spec.name] = min(found.get(spec.name, (1 << 60, "")), (parameters(spec), name))
    return {network: name for network, (_, name) in found.items()}


SMALLEST = smallest()
SMALL = [name for name, spec in PRESETS.items() if parameters(spec) < LARGE]


def test_every_network_has_a_preset() -> None:
    assert set(SMALLEST) == set(MODELS)


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_and_levels(name: str) -> None:
    spec = PRESETS[name]
    with torch.device("meta"):
        net = build_whole(recipe_of(spec)).eval()
        results = net(torch.zeros(2, 3, SIZE, SIZE))
    heads = (results,) if isinstance(results, Tensor) else results
    assert {tuple(h.shape) for h in heads} == {(2, 1, SIZE, SIZE)}
    assert len(levels_of(net)) == (0 if isinstance(results, Tensor) else len(heads))
    cost = cost_of(net, 3, SIZE, SIZE)
    assert cost.macs > 0
    assert cost.activation_bytes >= SIZE * SIZE


@pytest.mark.parametrize("name", SMALL)
def test_a_gradient_reaches_every_weight(name: str) -> None:
    assert silent_parameters(PRESETS[name]) == []


@pytest.fixture(scope="module", params=sorted(SMALLEST.values()))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """(preset, its QAT checkpoint after a few steps)."""
    name: str = request.param
    room = tmp_path_factory.mktemp("trained")
    return name, quick_checkpoint(name, PRESETS[name], room, size=SIZE, train_size=SIZE)


@pytest.mark.slow
def test_levels_are_heads_of_the_whole(trained: tuple[str, Path], tmp_path: Path) -> None:
    net = restore(load_checkpoint(trained[1]))
    with torch.no_grad():
        whole = net(pictures(2))
        for place, level in enumerate(levels_of(net)):
            prune_checkpoint(trained[1], level, tmp_path / "level.safetensors")
            pruned = restore(load_checkpoint(tmp_path / "level.safetensors"))
            assert torch.equal(pruned(pictures(2)), whole[place]), level
            assert set(pruned.state_dict()) == set(cut_to_level(net, level).state_dict())


def bears_its_own_rounding(row: MatrixRow) -> bool:
    """A microcontroller refuses islands, and rounds in its own way: masks after a few steps of training are too close
    to a tie for that. Its codes, scales and weights are gated as everywhere."""
    of_masks = ("mask agreement", "golden frames", "Dice", "IoU")
    if row.target != "mcu":
        return False
    if row.status == "blocked":
        return "float island" in row.reason
    return all(reason.startswith(of_masks) for reason in row.reason.split("; "))


@pytest.mark.slow
def test_every_target_gives_the_same_masks(trained: tuple[str, Path], tmp_path: Path) -> None:
    name, checkpoint = trained
    names = levels_of(restore(load_checkpoint(checkpoint)))
    model = checkpoint
    rows: list[MatrixRow] = []
    if names:
        model = tmp_path / "L1.safetensors"
        prune_checkpoint(checkpoint, names[0], model)
        rows += rows_of(f"{name} L1", model, weights="test", images=2, timed=False)
        prune_checkpoint(checkpoint, names[-2], model)
    rows += rows_of(name, model, weights="test", images=2, timed=False)
    assert {row.target for row in rows} == set(TARGETS)
    bad = [row for row in rows if row.status != "passed" and not bears_its_own_rounding(row)]
    assert [f"{row.target}: {row.status} {row.reason}" for row in bad] == []


def test_the_default_build_has_one_head() -> None:
    deep = next(spec for spec in PRESETS.values() if spec.deep)
    assert isinstance(build(recipe_of(deep.model_copy(update={"deep": False})))(pictures(1)), Tensor)
