"""`edge-unet prune`: levels by name, by latency and by Dice."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_road import quiet, write_pairs

from edge_unet.core.errors import AccuracyGateError, PerformanceGateError, UsageError
from edge_unet.models.checkpoint import load_checkpoint
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.pipeline.prune import LevelCost, choose, levels, prune_checkpoint, prune_to_limits
from edge_unet.pipeline.quantize import quantize_checkpoint
from edge_unet.pipeline.train import Overrides, run_training
from edge_unet.pipeline.verify import verify

RECIPE = """
name = "nested"
[model]
name = "unetpp"
base = 8
depth = 2
deep = true
[preprocess]
height = 64
width = 64
[train]
epochs = 3
batch = 8
warmup_epochs = 0.5
learning_rate = 1e-2
ema_decay = 0.8
amp = "off"
[quantize]
calibration_images = 32
observer = "minmax"
"""


@pytest.fixture(scope="module")
def nested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(quantized checkpoint of a deep network, data)."""
    room = tmp_path_factory.mktemp("nested")
    write_pairs(room / "data/train", 40, 1)
    write_pairs(room / "data/val", 8, 2)
    (room / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    run_training(room / "recipe.toml", room / "run", Overrides(data=room / "data"), phase="fp32", say=quiet)
    quantize_checkpoint(room / "run/fp32.safetensors", room / "ptq.safetensors", None, None, None, say=quiet)
    return room / "ptq.safetensors", room / "data"


def test_every_level_exports_and_verifies(nested: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, data = nested
    sizes = []
    for level in levels(checkpoint):
        out = tmp_path / f"{level}.safetensors"
        row = prune_checkpoint(checkpoint, level, out)
        info = load_checkpoint(out).info
        assert (info.recipe.model.level, info.recipe.name) == (level, f"nested-{level}")
        assert info.parent_sha256 == load_checkpoint(checkpoint).sha256
        (bundle,) = export(out, resolve_targets("onnx"), tmp_path, say=quiet)
        result = verify(bundle.folder, data, say=quiet)
        assert result.passed
        assert result.agreement == 1.0
        sizes.append(row["weights"])
    assert sizes[0] < sizes[1]
    assert sizes[2] == sizes[1] + 8 + 2  # the mean keeps the head of L1 (8 channels) and adds its kernel of two


def test_a_deep_checkpoint_exports_as_its_deepest(nested: tuple[Path, Path], tmp_path: Path) -> None:
    (bundle,) = export(nested[0], resolve_targets("onnx"), tmp_path, say=quiet)
    prune_checkpoint(nested[0], "L2", tmp_path / "L2.safetensors")
    (pruned,) = export(tmp_path / "L2.safetensors", resolve_targets("onnx"), tmp_path, say=quiet)
    assert bundle.manifest.census == pruned.manifest.census
    assert verify(bundle.folder, nested[1], say=quiet).dice == verify(pruned.folder, nested[1], say=quiet).dice


def test_a_pruned_checkpoint_has_nothing_more_to_prune(nested: tuple[Path, Path], tmp_path: Path) -> None:
    prune_checkpoint(nested[0], "L1", tmp_path / "L1.safetensors")
    with pytest.raises(UsageError, match="pruned to L1 already"):
        prune_checkpoint(tmp_path / "L1.safetensors", "L1", tmp_path / "again.safetensors")
    with pytest.raises(UsageError, match="no level 'L7'"):
        prune_checkpoint(nested[0], "L7", tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_limits_are_measured(nested: tuple[Path, Path], tmp_path: Path) -> None:
    checkpoint, data = nested
    out = tmp_path / "chosen.safetensors"
    row = prune_to_limits(checkpoint, out, target="onnx", max_drop=100, data=data, rapid=True, say=quiet)
    by_level = {cost["level"]: cost for cost in row["levels"]}
    assert row["level"] == min(by_level, key=lambda name: by_level[name]["p90_ms"])  # any drop allowed: the fastest
    assert load_checkpoint(out).info.recipe.model.level == row["level"]
    with pytest.raises(PerformanceGateError, match="no level keeps 1e-06 ms"):
        prune_to_limits(checkpoint, out, target="onnx", budget_ms=1e-6, rapid=True, say=quiet)
    with pytest.raises(UsageError, match="pass --data"):
        prune_to_limits(checkpoint, out, target="onnx", max_drop=1, rapid=True, say=quiet)
    with pytest.raises(UsageError, match="does not execute on this machine"):
        prune_to_limits(checkpoint, out, target="jetson", budget_ms=10, say=quiet)


COSTS = (
    LevelCost("L1", 10, 1, 1.0, 0.70),
    LevelCost("L2", 20, 2, 2.0, 0.80),
    LevelCost("L3", 30, 3, 4.0, 0.81),
    LevelCost("mean", 31, 3, 4.2, 0.805),
)


@pytest.mark.parametrize(
    ("budget_ms", "max_drop", "level"),
    [(10, None, "L3"), (3, None, "L2"), (1, None, "L1"), (None, 0.5, "L3"), (None, 1.5, "L2"), (None, 50, "L1"),
     (4.1, 2, "L3"), (2, 1, "L2")],
)  # fmt: skip
def test_the_choice(budget_ms: float | None, max_drop: float | None, level: str) -> None:
    assert choose(COSTS, budget_ms=budget_ms, max_drop=max_drop).level == level


def test_without_data_the_deepest_within_the_budget() -> None:
    costs = [LevelCost(c.level, c.parameters, c.bytes, c.p90_ms, None) for c in COSTS]
    assert choose(costs, budget_ms=4.1, max_drop=None).level == "L3"
    assert choose(costs, budget_ms=1.5, max_drop=None).level == "L1"


def test_limits_that_exclude_each_other() -> None:
    with pytest.raises(AccuracyGateError, match=r"no level within 1 ms has a Dice of 0\.8000: the best, L1"):
        choose(COSTS, budget_ms=1, max_drop=1)
