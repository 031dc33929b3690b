"""What the command line changes in a recipe, and short trainings through the pipeline."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_road import Road, quiet, write_pairs

from edge_unet.core.errors import DataError, UsageError
from edge_unet.core.files import sha256_of
from edge_unet.core.recipe import Recipe, load_recipe
from edge_unet.models import PRESETS
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
    assert changed.pretrain.train.epochs == 3


def test_a_folder_replaces_the_recipes_data(road: Road) -> None:
    recipe = Recipe.model_validate({"data": {"train": ["a", "b"], "val": ["c"]}})
    changed = apply(recipe, Overrides(data=road.data))
    assert (changed.data.train, changed.data.val) == ((str(road.data),), ())
    with pytest.raises(UsageError, match="no such folder"):
        apply(recipe, Overrides(data=road.data / "nowhere"))


def test_a_preset_replaces_the_recipes_network(road: Road) -> None:
    recipe = load_recipe(road.recipe)
    changed = apply(recipe, Overrides(model="mobile_unet-0.35"))
    assert changed.model == PRESETS["mobile_unet-0.35"]
    assert changed.model_copy(update={"model": recipe.model}) == recipe
    with pytest.raises(UsageError, match=r"unknown model preset 'unet-9'; did you mean 'unet-8'\?"):
        apply(recipe, Overrides(model="unet-9"))


def test_a_loss_that_does_not_fit_is_told_first(road: Road, tmp_path: Path) -> None:
    """Before data is read: there is none."""
    for section, message in (
        ("[loss]\nhead_weights = [1.0, 2.0]\n", r"head_weights has 2 values, unet has 1 head\(s\) with model.deep off"),
        ("[loss.terms]\nms_ssim = 1\n[train]\nstages = [[8, 1]]\n", "at least 11 pixels a side, received 8x8"),
    ):
        recipe = tmp_path / "recipe.toml"
        text = road.recipe.read_text(encoding="utf-8")
        recipe.write_text(text.split("[train]")[0] + section, encoding="utf-8")
        with pytest.raises(UsageError, match=message):
            run_training(recipe, tmp_path / "out", Overrides(), say=quiet)
    assert not (tmp_path / "out").exists()


def test_a_teacher_teaches_a_preset(road: Road, tmp_path: Path) -> None:
    """UNet 3+'s loss at 64 pixels, which says that it leaves scales out; and a student of another network."""
    recipe = tmp_path / "recipe.toml"
    hybrid = "[loss.terms]\nfocal = 1\nms_ssim = 1\niou = 1\n[loss]\nclass_weights = 'median_frequency'\n"
    recipe.write_text(road.recipe.read_text(encoding="utf-8") + hybrid, encoding="utf-8")
    said: list[str] = []
    overrides = Overrides(data=road.data, epochs=1, model="mobile_unet-0.35")
    row = run_training(recipe, tmp_path / "run", overrides, phase="fp32", teacher=road.ptq, say=said.append)
    info = load_checkpoint(Path(row["fp32"]["checkpoint"])).info
    assert info.teacher_sha256 == sha256_of(road.ptq)
    assert info.recipe.model.width == 0.35
    assert info.class_weights is not None
    assert info.class_weights[1] > 1 > info.class_weights[0] > 0
    assert any("ms_ssim: 3 of 5 scales at 64x64" in line for line in said)
    with pytest.raises(UsageError, match=r"nowhere\.safetensors: no such checkpoint"):
        run_training(recipe, tmp_path / "other", overrides, teacher=tmp_path / "nowhere.safetensors", say=quiet)


def test_a_warm_up_starts_both_phases(road: Road, tmp_path: Path) -> None:
    """On pictures of another folder, which have no masks."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in sorted((road.data).rglob("images/*"))[:8]:
        (pictures / path.name).write_bytes(path.read_bytes())
    recipe = tmp_path / "recipe.toml"
    section = f'[pretrain]\nimages = ["{pictures}"]\npatch = 16\n[pretrain.train]\nbatch = 8\n'
    recipe.write_text(road.recipe.read_text(encoding="utf-8") + section, encoding="utf-8")
    said: list[str] = []
    overrides = Overrides(data=road.data, epochs=1, qat_epochs=1)
    row = run_training(recipe, tmp_path / "run", overrides, phase="pretrain", say=said.append)
    warm = Path(row["pretrain"]["checkpoint"])
    assert warm == tmp_path / "run" / "pretrain.safetensors"
    assert row["pretrain"]["metrics"]["val_error"] > 0
    assert any("+pictures" in line for line in said)
    for options in ({"init": road.fp32}, {"teacher": road.ptq}):
        with pytest.raises(UsageError, match="a warm-up starts from random weights and has no teacher"):
            run_training(recipe, tmp_path / "no", overrides, phase="pretrain", say=quiet, **options)

    rows = run_training(recipe, tmp_path / "run", overrides, init=warm, say=quiet)
    assert load_checkpoint(Path(rows["fp32"]["checkpoint"])).info.parent_sha256 == sha256_of(warm)
    assert load_checkpoint(Path(rows["qat"]["checkpoint"])).info.kind == "qat"
    with pytest.raises(UsageError, match="has seen no mask"):
        evaluate(warm, road.data)


def test_wrong_phase_and_a_missing_start(road: Road, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="both, pretrain, fp32, qat"):
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
