from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_unet.core.errors import DataError, UsageError
from edge_unet.core.recipe import DataSpec, Recipe
from edge_unet.data.class_names import read_classes
from edge_unet.data.open import open_data
from edge_unet.data.scenes import SceneDataset


def with_data(recipe: Recipe, **data: object) -> Recipe:
    return recipe.model_copy(update={"data": DataSpec.model_validate(data)})


def test_folders_are_joined(make_folder: Callable[..., Path], recipe: Recipe, tmp_path: Path) -> None:
    make_folder("one", count=8)
    make_folder("two", count=4)
    both = with_data(recipe, train=("one", "two"), split=0.25)
    train, val = open_data(both, "train", tmp_path), open_data(both, "val", tmp_path)
    assert (len(train), len(val)) == (9, 3)
    assert not set(train.names) & set(val.names)
    assert train.name == "one+two"
    assert train.sha256 != val.sha256


def test_a_val_folder_leaves_train_whole(make_folder: Callable[..., Path], recipe: Recipe, tmp_path: Path) -> None:
    make_folder("flat", count=8)
    make_folder("only_train", count=4, below="train")
    make_folder("held", count=3)
    given = with_data(recipe, train=("flat", "only_train"), val=("held",))
    assert len(open_data(given, "train", tmp_path)) == 12
    assert len(open_data(given, "val", tmp_path)) == 3


def test_a_folder_in_both_lists_is_split(make_folder: Callable[..., Path], recipe: Recipe, tmp_path: Path) -> None:
    make_folder("flat", count=8)
    given = with_data(recipe, train=("flat",), val=("flat",), split=0.25)
    train, val = open_data(given, "train", tmp_path), open_data(given, "val", tmp_path)
    assert (len(train), len(val)) == (6, 2)
    assert not set(train.names) & set(val.names)


def test_root_comes_from_the_environment(
    make_folder: Callable[..., Path], recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder("one")
    given = with_data(recipe, train=("one",))
    monkeypatch.setenv("EDGE_UNET_DATA", str(tmp_path))
    by_variable = open_data(given, "train")
    monkeypatch.delenv("EDGE_UNET_DATA")
    monkeypatch.chdir(tmp_path)
    assert open_data(given, "train").sha256 == by_variable.sha256
    absolute = with_data(recipe, train=(str(tmp_path / "one"),))
    assert open_data(absolute, "train").names == by_variable.names


def test_no_folder_means_scenes(recipe: Recipe) -> None:
    lanes = with_data(recipe, scene="lanes", scene_count=40)
    train, val = open_data(lanes, "train"), open_data(lanes, "val")
    assert isinstance(train, SceneDataset)
    assert (train.name, len(train), len(val)) == ("scenes-lanes", 40, 32)
    assert train.classes == recipe.classes
    assert not np.array_equal(train.load(0)[0], val.load(0)[0])


def test_val_without_train(recipe: Recipe) -> None:
    with pytest.raises(UsageError, match=r"data\.val is given without data\.train"):
        open_data(with_data(recipe, val=("x",)), "val")


def test_the_same_folder_twice(make_folder: Callable[..., Path], recipe: Recipe, tmp_path: Path) -> None:
    make_folder("one")
    with pytest.raises(DataError, match="listed twice"):
        open_data(with_data(recipe, train=("one", "one")), "train", tmp_path)


def test_offenders_of_all_folders_come_at_once(
    make_folder: Callable[..., Path], recipe: Recipe, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (make_folder(name) / "masks" / "p0_f1.png").unlink()
    make_folder("good")
    with pytest.raises(DataError, match="2 of 3 train folders") as caught:
        open_data(with_data(recipe, train=("one", "good", "two")), "train", tmp_path)
    missing = [line for line in caught.value.offenders if line.endswith("p0_f1.png: image without a mask")]
    assert [Path(line.split(":")[0]).parts[-3] for line in missing] == ["one", "two"]


def test_camvid(shared_data: Path, recipe: Recipe) -> None:
    classes = read_classes(shared_data / "camvid" / "classes.txt")
    camvid = with_data(recipe, train=("camvid",)).model_copy(update={"classes": classes})
    val = open_data(camvid, "val", shared_data)
    assert len(val) == 101
    frame, mask = val.load(0)
    assert frame.shape == (360, 480, 3)
    assert set(np.unique(mask)) <= {*range(11), 11}


def test_endoscopy_sets(shared_data: Path, recipe: Recipe) -> None:
    both = with_data(recipe, train=("kvasir_seg", "cvc_clinicdb"))
    val = open_data(both, "val", shared_data)
    assert len(val) == 170
    assert set(np.unique(val.load(169)[1])) == {0, 1}
    assert val.names[0].startswith("kvasir_seg/val/images/")


def test_a_set_without_val_is_cut(shared_data: Path, recipe: Recipe) -> None:
    robocar = with_data(recipe, train=("robocar_lanes",))
    train, val = open_data(robocar, "train", shared_data), open_data(robocar, "val", shared_data)
    assert (len(train), len(val)) == (104, 18)
    assert not set(train.names) & set(val.names)
