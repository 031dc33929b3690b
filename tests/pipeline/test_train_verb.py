"""What the command line changes in a recipe, and short trainings through the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_road import Road, quiet, write_pairs

from edge_unet.core.errors import DataError, UsageError
from edge_unet.core.files import sha256_of
from edge_unet.core.recipe import Recipe, load_recipe
from edge_unet.models.checkpoint import load_checkpoint
from edge_unet.pipeline.evaluate import evaluate
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.pipeline.train import Overrides, apply, fine_tune, run_training


def test_no_override_changes_nothing(road: Road) -> None:
    recipe = load_recipe(road.recipe)
    assert apply(recipe, Overrides()) == recipe


def test_epochs_replace_stages() -> None:
    staged = Recipe.model_validate(
        {"train": {"stages": [[32, 4], [64, 6]]}, "quantize": {"qat": {"stages": [[64, 2]]}}}
    )
    changed = apply(staged, Overrides(epochs=3, qat_epochs=5))
    assert (changed.train.epochs, changed.train.stages) == (3, ())
    assert (changed.quantize.qat.epochs, changed.quantize.qat.stages) == (5, ())
    assert apply(staged, Overrides(epochs=3)).quantize == staged.quantize


def test_a_folder_replaces_the_recipes_data(road: Road) -> None:
    recipe = Recipe.model_validate({"data": {"train": ["a", "b"], "val": ["c"]}})
    changed = apply(recipe, Overrides(data=road.data))
    assert (changed.data.train, changed.data.val) == ((str(road.data),), ())
    with pytest.raises(UsageError, match="no such folder"):
        apply(recipe, Overrides(data=road.data / "nowhere"))


def test_wrong_phase_and_a_missing_start(road: Road, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both, fp32, qat"):
        run_training(road.recipe, tmp_path, Overrides(), phase="int8", say=quiet)
    with pytest.raises(UsageError, match="add --phase qat"):
        run_training(road.recipe, tmp_path, Overrides(data=road.data), init=road.fp32, say=quiet)
    with pytest.raises(UsageError, match=r"fp32\.safetensors"):
        run_training(road.recipe, tmp_path, Overrides(data=road.data), phase="qat", say=quiet)


def test_qat_from_a_float_checkpoint_exports(road: Road, tmp_path: Path) -> None:
    said: list[str] = []
    row = run_training(
        road.recipe, tmp_path / "run", Overrides(data=road.data), phase="qat", init=road.fp32, say=said.append
    )
    assert list(row) == ["qat"]
    checkpoint = Path(row["qat"]["checkpoint"])
    assert checkpoint == tmp_path / "run/qat.safetensors"
    assert row["qat"]["metrics"]["val_dice"] > 0.9
    assert load_checkpoint(checkpoint).info.parent_sha256 == sha256_of(road.fp32)
    assert any("40 images" in line and "validating on 8" in line for line in said)
    (bundle,) = export(checkpoint, resolve_targets("onnx"), tmp_path / "out", say=quiet)
    assert bundle.manifest.metrics["val_dice"] == row["qat"]["metrics"]["val_dice"]
    assert abs(evaluate(bundle.folder, road.data, say=quiet).dice - row["qat"]["metrics"]["val_dice"]) < 0.01


def test_fine_tune_goes_on_from_a_quantized_checkpoint(road: Road, tmp_path: Path) -> None:
    own = write_pairs(tmp_path / "own-pictures", 24, 5)
    tuned = fine_tune(road.ptq, own, tmp_path / "run", epochs=1, say=quiet)
    info = load_checkpoint(tuned).info
    assert (info.kind, info.recipe.name) == ("qat", "own-pictures")
    assert info.parent_sha256 == sha256_of(road.ptq)
    assert info.metrics["val_dice"] > 0.9
    (tmp_path / "empty/images").mkdir(parents=True)
    with pytest.raises(DataError, match="masks"):
        fine_tune(road.ptq, tmp_path / "empty", tmp_path / "other", epochs=1, say=quiet)
