"""Regions of drawn masks: area, share, centroid, box, outline, order."""

from __future__ import annotations

import numpy as np
import pytest

from edge_unet.segment.regions import box_overlap, regions_of


def test_a_rectangle_is_measured_to_the_pixel() -> None:
    mask = np.zeros((40, 50), np.uint8)
    mask[10:20, 5:25] = 1
    (region,) = regions_of(mask)
    assert region.area_pixels == 200
    assert region.share == 0.1
    assert region.centroid == (14.5, 14.5)
    assert region.box == (5, 10, 20, 10)
    assert region.outline.min(axis=0).tolist() == [5, 10]
    assert region.outline.max(axis=0).tolist() == [24, 19]
    assert region.row() == {
        "area_pixels": 200, "share": 0.1, "centroid": [14.5, 14.5], "box": [5, 10, 20, 10],
    }  # fmt: skip


def test_largest_first_small_ones_left_out_other_classes_ignored() -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[2:5, 2:5] = 1
    mask[10:20, 10:20] = 1
    mask[22, 25] = 1
    mask[25:28, 2:28] = 2
    assert [r.area_pixels for r in regions_of(mask)] == [100, 9, 1]
    assert [r.area_pixels for r in regions_of(mask, smallest_pixels=9)] == [100, 9]
    assert [r.area_pixels for r in regions_of(mask, value=2)] == [78]
    assert regions_of(np.zeros((5, 5), np.uint8)) == []


def test_pixels_that_touch_at_a_corner_are_one_region_with_one_outline() -> None:
    mask = np.zeros((6, 6), np.uint8)
    mask[1, 1] = mask[2, 2] = mask[3, 3] = 1
    (region,) = regions_of(mask)
    assert region.area_pixels == 3
    assert {tuple(point) for point in region.outline.tolist()} == {(1, 1), (2, 2), (3, 3)}


def test_a_ring_and_the_dot_in_it_keep_apart() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:18, 2:18] = 1
    mask[5:15, 5:15] = 0
    mask[9:11, 9:11] = 1
    ring, dot = regions_of(mask)
    assert (ring.area_pixels, dot.area_pixels) == (156, 4)
    assert ring.outline.min() == 2
    assert dot.outline.min() == 9


def test_boxes_overlap() -> None:
    mask = np.zeros((20, 40), np.uint8)
    mask[0:10, 0:10] = 1
    mask[0:10, 20:30] = 1
    one, other = regions_of(mask)
    moved = np.zeros_like(mask)
    moved[0:10, 5:15] = 1
    (third,) = regions_of(moved)
    assert box_overlap(one, one) == 1
    assert box_overlap(one, other) == 0
    left = one if one.box[0] == 0 else other
    assert box_overlap(left, third) == pytest.approx(50 / 150)
