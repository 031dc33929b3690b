"""Recipes: unknown keys are errors that name the nearest one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_values_arrive(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "r.toml", 'name = "x"\n[model]\nwidth = 0.35\n[train]\nbatch = 4\n'))
    assert (recipe.name, recipe.model.width, recipe.train.batch) == ("x", 0.35, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nwidht = 1.0\n", r"unknown key 'model.widht'; did you mean 'width'\?"),
        ("[quantize.qat]\nepoch = 1\n", r"unknown key 'quantize.qat.epoch'; did you mean 'epochs'\?"),
        ("sed = 1\n", r"unknown key 'sed'; did you mean 'seed'\?"),
        ("[train]\nbatch = 0\n", r"train.batch: Input should be greater than 0"),
        ("[model]\nupsample = 'align_corners'\n", r"model.upsample"),
        ("[model\n", r"cannot read the recipe"),
        ("[quantize]\ncalibration_images = 8\n", r"quantize.calibration_images"),
        ("[loss.terms]\nfokal = 1\n", r"unknown key 'loss.terms.fokal'; did you mean 'focal'\?"),
        ("[loss]\nterms = {}\n", r"loss.terms: .*every weight is 0; give at least one of ce, dice"),
        ("[loss.terms]\nce = -1\n", r"loss.terms.ce: .*greater than or equal to 0"),
        ("[loss]\nhead_weights = [1, -1]\n", r"expected none below 0"),
        ("[loss]\nclass_weights = 'mean'\n", r"loss.class_weights"),
        ("[distill]\nlogits = 0\n", r"leave nothing to learn"),
        ("[augment]\nforeground_bias = 0.5\n", r"augment: .*set patch < 1"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        load_recipe(write(tmp_path / "r.toml", text))
    assert caught.value.exit_code == 2
    assert str(tmp_path / "r.toml") in str(caught.value)


def test_terms_of_a_recipe_replace_the_default_ones(tmp_path: Path) -> None:
    assert Recipe().loss.terms.used == {"ce": 1, "dice": 1}
    recipe = load_recipe(write(tmp_path / "r.toml", "[loss]\nfocal_gamma = 1.5\n[loss.terms]\nfocal = 2\n"))
    assert recipe.loss.terms.used == {"focal": 2}
    assert recipe.loss.focal_gamma == 1.5


def test_a_recipe_of_before_the_loss_had_terms_loads() -> None:
    old = {key: value for key, value in Recipe().model_dump().items() if key not in ("loss", "distill", "pretrain")}
    old["augment"] = {key: value for key, value in old["augment"].items() if key not in ("patch", "foreground_bias")}
    assert Recipe.model_validate(old) == Recipe()


def test_a_recipe_survives_json() -> None:
    recipe = Recipe()
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("path", sorted((ROOT / "export" / "recipes").glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_recipes_load(path: Path) -> None:
    assert load_recipe(path).name
