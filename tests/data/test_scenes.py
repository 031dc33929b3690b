from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge_unet.core.errors import UsageError
from edge_unet.core.spec import ClassSpec
from edge_unet.data.scenes import SCENE_CLASSES, SceneDataset, SceneKind

KINDS: tuple[SceneKind, ...] = ("endoscopy", "lanes")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 64), (48, 96), (97, 61)])
def test_every_size(kind: SceneKind, height: int, width: int) -> None:
    dataset = SceneDataset(kind, 12, 0, height, width)
    for index in range(12):
        frame, mask = dataset.load(index)
        assert (frame.shape, frame.dtype) == ((height, width, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((height, width), np.uint8)
        assert set(np.unique(mask)) <= {0, 1}
        assert frame.std() > 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_depends_on_seed_and_index_alone(kind: SceneKind) -> None:
    dataset = SceneDataset(kind, 8, 3, 64, 64)
    later = dataset.load(5)
    dataset.load(0)
    again = SceneDataset(kind, 100, 3, 64, 64).load(5)
    np.testing.assert_array_equal(later[0], again[0])
    np.testing.assert_array_equal(later[1], again[1])
    assert not np.array_equal(later[0], dataset.load(6)[0])
    assert not np.array_equal(later[0], SceneDataset(kind, 8, 4, 64, 64).load(5)[0])


@pytest.mark.parametrize(("kind", "low", "high"), [("endoscopy", 0.03, 0.25), ("lanes", 0.005, 0.06)])
def test_foreground_share_is_plausible(kind: SceneKind, low: float, high: float) -> None:
    """Real sets: polyps cover 5 to 15 % of a frame, lane paint 2 to 7 %."""
    masks = [SceneDataset(kind, 48, 0, 64, 64).load(index)[1] for index in range(48)]
    assert low < float(np.mean(masks)) < high
    filled = sum(bool(mask.any()) for mask in masks)
    assert filled > 36


def test_some_endoscopy_frames_have_no_polyp() -> None:
    masks = [SceneDataset("endoscopy", 64, 1, 48, 48).load(index)[1] for index in range(64)]
    assert 1 <= sum(not mask.any() for mask in masks) <= 24


def test_paint_is_brighter_than_the_road_beside_it() -> None:
    differences = []
    for index in range(24):
        frame, mask = SceneDataset("lanes", 24, 0, 96, 96).load(index)
        grey = frame.mean(axis=2)
        beside = np.zeros_like(mask)
        beside[:, 6:] |= mask[:, :-6]
        beside[:, :-6] |= mask[:, 6:]
        beside &= 1 - mask
        if mask.sum() > 20 and beside.any():
            differences.append(grey[mask == 1].mean() - grey[beside == 1].mean())
    assert np.mean(np.array(differences) > 0) > 0.85


def test_colour_orders_show_the_same_scene() -> None:
    rgb = SceneDataset("lanes", 2, 0, 64, 64)
    frame, mask = rgb.load(1)
    bgr, same_mask = dataclasses.replace(rgb, color_order="BGR").load(1)
    grey, _ = dataclasses.replace(rgb, color_order="GRAY").load(1)
    np.testing.assert_array_equal(bgr[..., ::-1], frame)
    np.testing.assert_array_equal(same_mask, mask)
    assert grey.shape == (64, 64, 1)


def test_hashes_and_names_tell_datasets_apart() -> None:
    base = SceneDataset("lanes", 4, 0, 64, 64)
    others = [
        dataclasses.replace(base, **change)
        for change in ({"seed": 1}, {"count": 5}, {"height": 96}, {"kind": "endoscopy"})
    ]
    assert len({base.sha256, *(other.sha256 for other in others)}) == 5
    assert SceneDataset("lanes", 4, 0, 64, 64).sha256 == base.sha256
    assert base.names == tuple(f"scenes-lanes/0/0000{i}" for i in range(4))
    assert base.frame_sha256(1) == SceneDataset("lanes", 9, 0, 64, 64).frame_sha256(1) != base.frame_sha256(2)


def test_classes_default_to_the_kind() -> None:
    assert SceneDataset("endoscopy", 1, 0, 64, 64).classes == SCENE_CLASSES["endoscopy"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "moon"}, "expected one of endoscopy, lanes"),
        ({"height": 16}, "at least 1 of 32x32"),
        ({"count": 0}, "at least 1"),
        ({"seed": -1}, "a seed from 0"),
        (
            {"class_spec": ClassSpec(names=("a", "b", "c"), palette=((0, 0, 0), (1, 1, 1), (2, 2, 2)))},
            "the recipe names 3",
        ),
    ],
)
def test_bad_parameters(change: dict[str, object], words: str) -> None:
    good = {"kind": "lanes", "count": 4, "seed": 0, "height": 64, "width": 64}
    with pytest.raises(UsageError, match=words):
        SceneDataset(**{**good, **change})


@pytest.mark.parametrize("index", [-1, 4])
def test_index_out_of_range(index: int) -> None:
    with pytest.raises(IndexError, match="of 4"):
        SceneDataset("lanes", 4, 0, 64, 64).load(index)
