"""Folders of images without masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_unet.core.errors import DataError
from edge_unet.core.recipe import DataSpec, PretrainSpec, Recipe
from edge_unet.data.pictures import open_pictures
from edge_unet.frames.files import write_png


def picture(path: Path, level: int, planes: int = 3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path, np.full((8, 12, planes), level, np.uint8))


def recipe_with(*images: str, order: str = "RGB") -> Recipe:
    recipe = Recipe(data=DataSpec(scene_count=4), pretrain=PretrainSpec(images=images))
    channels = 1 if order == "GRAY" else 3
    frame = recipe.preprocess.model_copy(update={"channels": channels, "color_order": order})
    return recipe.model_copy(update={"preprocess": frame})


def test_training_images_alone_are_read(tmp_path: Path) -> None:
    """Of splits only train/, of pairs only images/, of a bare folder everything; the recipe's own come first."""
    picture(tmp_path / "splits/train/images/a.png", 1)
    picture(tmp_path / "splits/val/images/b.png", 2)
    picture(tmp_path / "pairs/images/deep/c.png", 3)
    picture(tmp_path / "pairs/masks/deep/c.png", 4, planes=1)
    picture(tmp_path / "bare/d.png", 5, planes=1)
    data = open_pictures(recipe_with("splits", "pairs", "bare"), tmp_path)
    assert list(data.names[4:]) == ["splits/a.png", "pairs/deep/c.png", "bare/d.png"]
    assert len(data) == 7
    for index, level in ((4, 1), (5, 3), (6, 5)):
        frame, mask = data.load(index)
        assert frame.shape == (8, 12, 3)
        assert (frame == level).all()
        assert mask.shape == (8, 12)
        assert not mask.any()


def test_the_hash_is_of_names_and_contents(tmp_path: Path) -> None:
    picture(tmp_path / "a/one.png", 1)
    first = open_pictures(recipe_with("a"), tmp_path).sha256
    assert open_pictures(recipe_with("a"), tmp_path).sha256 == first
    picture(tmp_path / "a/one.png", 2)
    assert open_pictures(recipe_with("a"), tmp_path).sha256 != first


def test_no_folder_is_the_recipes_data_alone(tmp_path: Path) -> None:
    assert len(open_pictures(recipe_with(), tmp_path)) == 4


def test_all_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a/good.png", 1)
    for name in ("b.png", "c.jpg"):
        (tmp_path / "a" / name).write_bytes(b"no image")
    with pytest.raises(DataError, match="2 files cannot be read") as caught:
        open_pictures(recipe_with("a"), tmp_path)
    assert "b.png" in str(caught.value)
    assert "c.jpg" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        open_pictures(recipe_with("empty"), tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        open_pictures(recipe_with("missing"), tmp_path)


def test_a_file_that_goes_away_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a/one.png", 1, planes=1)
    data = open_pictures(recipe_with("a", order="GRAY"), tmp_path)
    assert data.load(4)[0].shape == (8, 12, 1)
    assert len(data.frame_sha256(4)) == 64
    (tmp_path / "a/one.png").unlink()
    with pytest.raises(DataError, match=r"one\.png"):
        data.frame_sha256(4)
    with pytest.raises(DataError, match=r"one\.png"):
        data.load(4)
