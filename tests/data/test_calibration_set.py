from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_unet.core.errors import DataError, UsageError
from edge_unet.core.recipe import DataSpec, Recipe
from edge_unet.data.calibration_set import (
    CalibrationEntry,
    CalibrationSet,
    build_calibration_set,
    read_calibration_set,
    write_calibration_set,
)
from edge_unet.data.class_names import read_classes
from edge_unet.data.folders import FolderDataset, open_folder
from edge_unet.data.open import open_data
from edge_unet.data.scenes import SceneDataset
from edge_unet.frames import resize_frame, write_png

SETS = Path(__file__).resolve().parents[2] / "calibration" / "sets"


@pytest.fixture
def dataset(make_folder: Callable[..., Path], recipe: Recipe) -> FolderDataset:
    return open_folder(make_folder(count=40), "all", recipe)


def build(dataset: FolderDataset, seed: int = 0) -> CalibrationSet:
    return build_calibration_set(dataset, "train", name="few", why='"all" of them: é', count=32, seed=seed)


def test_a_set_survives_its_file(dataset: FolderDataset, tmp_path: Path) -> None:
    calibration = build(dataset)
    write_calibration_set(calibration, tmp_path / "few.toml")
    assert read_calibration_set(tmp_path / "few.toml") == calibration
    assert len({entry.file for entry in calibration.entries}) == 32
    assert [entry.file for entry in calibration.entries] == sorted(entry.file for entry in calibration.entries)


def test_the_choice_is_seeded_and_order_independent(dataset: FolderDataset) -> None:
    backwards = FolderDataset(dataset.name, dataset.classes, dataset.sha256, dataset.pairs[::-1], dataset.color_order)
    assert build(backwards) == build(dataset)
    assert build(dataset, seed=1).sha256 != build(dataset).sha256


def test_the_hash_is_of_the_content(dataset: FolderDataset) -> None:
    calibration = build(dataset)
    assert calibration.model_copy(update={"why": "reworded"}).sha256 == calibration.sha256
    assert calibration.model_copy(update={"entries": calibration.entries[1:]}).sha256 != calibration.sha256


def test_frames_come_in_manifest_order_at_the_network_size(dataset: FolderDataset, recipe: Recipe) -> None:
    calibration = build(dataset)
    frames = calibration.frames(dataset, recipe.preprocess)
    assert frames.shape == (32, 64, 64, 3)
    place = dataset.names.index(calibration.entries[3].file)
    np.testing.assert_array_equal(frames[3], resize_frame(dataset.load(place)[0], recipe.preprocess))


def test_missing_and_changed_files_are_all_listed(dataset: FolderDataset, recipe: Recipe) -> None:
    calibration = build(dataset)
    places = {pair.name: pair for pair in dataset.pairs}
    gone, changed = calibration.entries[0].file, calibration.entries[5].file
    write_png(places[changed].image, np.zeros((32, 40, 3), np.uint8))
    kept = tuple(pair for pair in dataset.pairs if pair.name != gone)
    rest = FolderDataset(dataset.name, dataset.classes, dataset.sha256, kept, dataset.color_order)
    with pytest.raises(DataError) as caught:
        calibration.frames(rest, recipe.preprocess)
    assert len(caught.value.offenders) == 2
    assert caught.value.offenders[0] == f"{gone}: not in set"
    assert changed in caught.value.offenders[1]


def test_the_val_split_is_refused(dataset: FolderDataset, make_folder: Callable[..., Path], recipe: Recipe) -> None:
    with pytest.raises(UsageError, match="taken from split 'val'"):
        build_calibration_set(dataset, "val", name="x", why="y", count=32)
    make_folder("split", count=2, below="train")
    held = open_folder(make_folder("split", count=40, below="val"), "val", recipe)
    with pytest.raises(UsageError, match="40 files are of a val split, first split/val/"):
        build_calibration_set(held, "train", name="x", why="y", count=32)


@pytest.mark.parametrize("count", [31, 41])
def test_too_few_or_more_than_there_are(dataset: FolderDataset, count: int) -> None:
    with pytest.raises(UsageError, match=f"{count} of 40 images"):
        build_calibration_set(dataset, "train", name="x", why="y", count=count)


def test_scenes_can_be_pinned_too() -> None:
    scenes = SceneDataset("lanes", 33, 0, 32, 32)
    calibration = build_calibration_set(scenes, "train", name="x", why="y", count=32)
    assert len(set(calibration.indices(scenes))) == 32
    with pytest.raises(DataError, match="not in scenes-lanes"):
        calibration.indices(SceneDataset("lanes", 33, 1, 32, 32))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((r'split = "train"', 'split = "val"'), "split: Input should be 'train'"),
        ((r'sha256 = "[0-9a-f]{4}', 'sha256 = "'), r"entries\.0\.sha256"),
        ((r"schema_version = 1", "schema_version = 2"), "schema_version"),
        ((r'name = "few"', 'name = "few"\nmade_by = "me"'), "made_by: Extra inputs"),
        ((r"entries = \[", "entries = "), "cannot read"),
    ],
)
def test_bad_manifests(dataset: FolderDataset, tmp_path: Path, change: tuple[str, str], words: str) -> None:
    path = tmp_path / "few.toml"
    write_calibration_set(build(dataset), path)
    path.write_text(re.sub(*change, path.read_text("utf-8"), count=1), "utf-8")
    with pytest.raises(UsageError, match=words):
        read_calibration_set(path)


def test_a_manifest_of_too_few(dataset: FolderDataset, tmp_path: Path) -> None:
    entries = build(dataset).entries
    short = CalibrationSet.model_construct(
        schema_version=1, name="x", dataset="set", split="train", why="y", entries=entries[:31]
    )
    write_calibration_set(short, tmp_path / "short.toml")
    with pytest.raises(UsageError, match="at least 32"):
        read_calibration_set(tmp_path / "short.toml")
    with pytest.raises(UsageError, match=r"nowhere\.toml: cannot read"):
        read_calibration_set(tmp_path / "nowhere.toml")


def test_an_entry_needs_a_whole_hash() -> None:
    with pytest.raises(ValueError, match="sha256"):
        CalibrationEntry(file="a.png", sha256="abc")


@pytest.mark.parametrize(("name", "parts"), [("endoscopy", ("kvasir_seg", "cvc_clinicdb")), ("road", ("camvid",))])
def test_the_sets_that_come_along(name: str, parts: tuple[str, ...]) -> None:
    calibration = read_calibration_set(SETS / f"{name}.toml")
    assert (calibration.name, calibration.dataset) == (name, "+".join(parts))
    assert len({entry.file for entry in calibration.entries}) == 64
    assert {entry.file.split("/")[0] for entry in calibration.entries} == set(parts)
    assert all("/train/images/" in entry.file for entry in calibration.entries)


@pytest.mark.parametrize(("name", "parts"), [("endoscopy", ("kvasir_seg", "cvc_clinicdb")), ("road", ("camvid",))])
def test_they_fit_the_real_data_and_are_rebuilt_from_it(shared_data: Path, name: str, parts: tuple[str, ...]) -> None:
    recipe = Recipe(data=DataSpec(train=parts))
    if name == "road":
        recipe = recipe.model_copy(update={"classes": read_classes(shared_data / "camvid" / "classes.txt")})
    data = open_data(recipe, "train", shared_data)
    calibration = read_calibration_set(SETS / f"{name}.toml")
    assert len(calibration.indices(data)) == 64
    assert build_calibration_set(data, "train", name=name, why=calibration.why) == calibration
