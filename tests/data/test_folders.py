from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_unet.core.errors import DataError
from edge_unet.core.recipe import DataSpec, Recipe
from edge_unet.core.spec import ClassSpec, PreprocessSpec
from edge_unet.data.folders import open_folder
from edge_unet.frames import write_png


@pytest.mark.parametrize("labels", [(0, 255), (0, 1)])
def test_binary_labels_become_ids(make_folder: Callable[..., Path], recipe: Recipe, labels: tuple[int, int]) -> None:
    folder = make_folder(labels=labels)
    dataset = open_folder(folder, "all", recipe)
    frame, mask = dataset.load(0)
    assert (frame.shape, frame.dtype, mask.shape, mask.dtype) == ((32, 40, 3), np.uint8, (32, 40), np.uint8)
    stored = cv2.imread(str(folder / "masks" / "p0_f0.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, stored > 0)
    np.testing.assert_array_equal(frame[..., ::-1], cv2.imread(str(folder / "images" / "p0_f0.png")))


def test_the_ignore_value_stays(make_folder: Callable[..., Path], recipe: Recipe) -> None:
    binary = ClassSpec(names=("a", "b"), palette=((0, 0, 0), (1, 1, 1)), ignore_value=128)
    dataset = open_folder(make_folder(labels=(0, 128, 255)), "all", recipe.model_copy(update={"classes": binary}))
    assert set(np.unique(dataset.load(0)[1])) == {0, 1, 128}


def test_multi_class_ids(make_folder: Callable[..., Path], recipe: Recipe, three_classes: ClassSpec) -> None:
    folder = make_folder(labels=(0, 1, 2, 11))
    (folder / "classes.txt").write_text("0 Sky\n1 Road\n2 Car\n11 void\n")
    dataset = open_folder(folder, "all", recipe.model_copy(update={"classes": three_classes}))
    assert set(np.unique(dataset.load(0)[1])) == {0, 1, 2, 11}
    with pytest.raises(DataError, match=r"not the recipe's") as caught:
        open_folder(folder, "all", recipe)
    assert "Sky, Road, Car; ignore_value 11" in caught.value.offenders[0]


@pytest.mark.parametrize(("order", "channels"), [("BGR", 3), ("GRAY", 1)])
def test_colour_order(make_folder: Callable[..., Path], order: str, channels: int) -> None:
    spec = PreprocessSpec.model_validate({"height": 64, "width": 64, "color_order": order, "channels": channels})
    folder = make_folder()
    frame, _ = open_folder(folder, "all", Recipe(preprocess=spec)).load(3)
    assert frame.shape == (32, 40, channels)
    if order == "BGR":
        np.testing.assert_array_equal(frame, cv2.imread(str(folder / "images" / "p1_f3.png")))


def test_names_and_hash_do_not_depend_on_the_place(make_folder: Callable[..., Path], recipe: Recipe) -> None:
    one, two = (open_folder(make_folder(f"{place}/set"), "all", recipe) for place in ("a", "b"))
    assert one.names == two.names
    assert one.names[0] == "set/images/p0_f0.png"
    assert one.sha256 == two.sha256
    assert one.frame_sha256(2) == two.frame_sha256(2)
    changed = make_folder("b/set")
    write_png(changed / "masks" / "p1_f2.png", np.zeros((32, 40), np.uint8))
    assert open_folder(changed, "all", recipe).sha256 != two.sha256


def test_split_folders_win(make_folder: Callable[..., Path], recipe: Recipe) -> None:
    make_folder(count=6, below="train")
    folder = make_folder(count=4, below="val")
    train, val = open_folder(folder, "train", recipe), open_folder(folder, "val", recipe)
    assert (len(train), len(val)) == (6, 4)
    assert val.names[0] == "set/val/images/p0_f0.png"


@pytest.mark.parametrize("below", ["", "train"])
def test_without_val_groups_are_split(make_folder: Callable[..., Path], recipe: Recipe, below: str) -> None:
    folder = make_folder(count=16, below=below)
    grouped = recipe.model_copy(update={"data": DataSpec(split=0.25, group_pattern=r"^(p\d+)_")})
    train, val = open_folder(folder, "train", grouped), open_folder(folder, "val", grouped)
    assert (len(train), len(val)) == (12, 4)  # 8 patients of two frames, a quarter of the patients held out
    patients = [{Path(name).name.split("_")[0] for name in part.names} for part in (train, val)]
    assert not patients[0] & patients[1]


def test_folders_within_images(tmp_path: Path, recipe: Recipe, write_pair: Callable[..., None]) -> None:
    for stem in ("a/1", "b/1"):
        write_pair(tmp_path, stem, np.zeros((32, 32), np.uint8))
    assert [Path(name).parent.name for name in open_folder(tmp_path, "all", recipe).names] == ["a", "b"]


def test_all_offenders_at_once(make_folder: Callable[..., Path], recipe: Recipe) -> None:
    folder = make_folder(count=9)
    images, masks = folder / "images", folder / "masks"
    (images / "p0_f0.png").write_bytes(b"not a picture")
    (masks / "p0_f1.png").unlink()
    (images / "p1_f2.png").unlink()
    write_png(masks / "p1_f3.png", np.zeros((10, 12), np.uint8))
    write_png(masks / "p2_f4.png", np.full((32, 40), 77, np.uint8))
    cv2.imwrite(str(images / "p2_f5.png"), np.zeros((32, 40, 4), np.uint8))
    write_png(masks / "p3_f6.png", np.zeros((32, 40, 3), np.uint8))
    (masks / "p3_f7.jpg").write_bytes(b"lossy")
    write_png(images / "p4_f8.png", np.zeros((32, 40, 3), np.uint8))
    (images / "p4_f8.jpg").write_bytes((images / "p4_f8.png").read_bytes())
    (images / ".DS_Store").write_bytes(b"a file manager's own")
    with pytest.raises(DataError) as caught:
        open_folder(folder, "all", recipe)
    expected = {
        "images/p0_f0.png": "not a readable image",
        "images/p0_f1.png": "image without a mask",
        "masks/p1_f2.png": "mask without an image",
        "masks/p1_f3.png": "mask is 12x10, its image 40x32",
        "masks/p2_f4.png": "found 77; expected 0 and 1, or 0 and 255",
        "images/p2_f5.png": "alpha channel",
        "masks/p3_f6.png": "one 8-bit channel",
        "masks/p3_f7.jpg": "not a file type for masks/",
        "images/p4_f8.png": "same stem as p4_f8.jpg",
    }
    for file, words in expected.items():
        assert [line for line in caught.value.offenders if file in line and words in line], f"{file}: {words}"
    assert len(caught.value.offenders) == len(expected)
    assert ".DS_Store" not in str(caught.value)


def test_unknown_multi_class_label_names_only_the_unknown(
    make_folder: Callable[..., Path], recipe: Recipe, three_classes: ClassSpec
) -> None:
    with pytest.raises(DataError, match=r"found 9; expected 0 to 2 and 11 to ignore"):
        open_folder(make_folder(labels=(0, 2, 9, 11)), "all", recipe.model_copy(update={"classes": three_classes}))


def test_jpeg_grey_in_a_binary_mask_is_refused(make_folder: Callable[..., Path], recipe: Recipe) -> None:
    with pytest.raises(DataError, match=r"found 0, 3, 252, 255; expected"):
        open_folder(make_folder(labels=(0, 3, 252, 255), count=2), "all", recipe)


def test_a_folder_without_the_layout(tmp_path: Path, recipe: Recipe) -> None:
    with pytest.raises(DataError, match="no train/images/"):
        open_folder(tmp_path / "nowhere", "train", recipe)
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match="no masks/"):
        open_folder(tmp_path, "all", recipe)
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="are empty"):
        open_folder(tmp_path, "all", recipe)


def test_a_file_that_vanished_after_opening(make_folder: Callable[..., Path], recipe: Recipe) -> None:
    folder = make_folder()
    dataset = open_folder(folder, "all", recipe)
    (folder / "images" / "p0_f0.png").unlink()
    with pytest.raises(DataError, match=r"p0_f0\.png: cannot read"):
        dataset.load(0)
    with pytest.raises(DataError, match=r"p0_f0\.png: cannot read"):
        dataset.frame_sha256(0)
