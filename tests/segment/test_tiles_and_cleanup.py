"""Overlap tiles, clean-up and overlay, without a runtime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from edge_unet.core.errors import UsageError
from edge_unet.core.spec import ClassSpec
from edge_unet.segment.cleanup import Cleanup, without_small
from edge_unet.segment.overlay import draw_mask
from edge_unet.segment.segmenter import class_probabilities
from edge_unet.segment.tiles import tile_starts, tiled_logits


def brightness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A network that looks at one pixel only: tiling must not show at all."""
    return pixels[0, :, :, :1].transpose(2, 0, 1).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.floats(0, 0.9))
def test_a_pixelwise_network_gives_the_same_tiled(height: int, width: int, overlap: float) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    logits = tiled_logits(frame, 32, 24, overlap, brightness)
    assert logits.shape == (1, height, width)
    assert np.allclose(logits[0], frame[..., 0], atol=1e-3)


@given(st.integers(1, 5000), st.integers(8, 512), st.floats(0, 0.95))
def test_tiles_cover_everything_and_stay_inside(length: int, tile: int, overlap: float) -> None:
    starts = tile_starts(length, tile, overlap)
    assert starts[0] == 0
    assert all(0 < b - a <= tile for a, b in itertools.pairwise(starts))
    assert length <= tile or starts[-1] == length - tile


def test_a_wrong_overlap_is_refused() -> None:
    with pytest.raises(UsageError, match="overlap 1"):
        tiled_logits(np.zeros((4, 4, 3), np.uint8), 2, 2, 1.0, brightness)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_small_components_go_as_in_scipy(seed: int, smallest: int) -> None:
    part = (np.random.default_rng(seed).random((24, 24)) > 0.6).astype(np.uint8)
    labels, count = ndimage.label(part, structure=np.ones((3, 3)))
    sizes = ndimage.sum_labels(part, labels, range(1, count + 1))
    expected = np.isin(labels, 1 + np.flatnonzero(np.asarray(sizes) >= smallest))
    assert np.array_equal(without_small(part, smallest).astype(bool), expected)


def test_cleanup_opens_closes_and_fills() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[5:25, 5:25] = 2
    mask[12:15, 12:15] = 0  # a hole of 9 pixels
    mask[30, 30] = 1  # a speck
    cleaned = Cleanup(opening=3, largest_hole_pixels=9, smallest_component_pixels=5)(mask)
    assert cleaned[13, 13] == 2
    assert cleaned[30, 30] == 0
    assert set(np.unique(cleaned)) == {0, 2}
    assert Cleanup(largest_hole_pixels=8)(mask)[13, 13] == 0
    with pytest.raises(UsageError, match="negative"):
        Cleanup(opening=-1)


def test_overlay_colours_only_the_foreground() -> None:
    classes = ClassSpec(names=("a", "b"), palette=((9, 9, 9), (200, 0, 0)), ignore_value=255)
    frame = np.full((20, 20, 3), 100, np.uint8)
    mask = np.zeros((20, 20), np.uint8)
    mask[5:15, 5:15] = 1
    mask[0, 0] = 255
    picture = draw_mask(frame, mask, classes, alpha=0.5)
    assert picture[10, 10].tolist() == [150, 50, 50]
    assert picture[0, 0].tolist() == [100, 100, 100]
    assert (frame == 100).all(), "the frame itself is not drawn on"


def test_probabilities_sum_to_one() -> None:
    binary = class_probabilities(np.array([0.0, 7.9375], np.float32).reshape(1, 1, 1, 2))
    assert binary[0, 1, 0].tolist() == pytest.approx([0.5, 0.99964], abs=1e-4)
    many = class_probabilities(np.random.default_rng(0).normal(size=(1, 5, 3, 3)).astype(np.float32))
    assert np.allclose(many.sum(axis=1), 1)
