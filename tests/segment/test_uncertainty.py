"""Entropy and disagreement against values worked out by hand, and maps brought to a frame's size."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edge_unet.core.errors import DataError
from edge_unet.core.spec import PreprocessSpec
from edge_unet.segment.maps import draw_heat, restore_values
from edge_unet.segment.uncertainty import disagreement, entropy_bits


def of(*values: float) -> NDArray[np.float32]:
    """Class probabilities of one pixel, (classes, 1, 1)."""
    return np.asarray(values, np.float32).reshape(-1, 1, 1)


@pytest.mark.parametrize(
    ("values", "bits"),
    [((0.5, 0.5), 1.0), ((1.0, 0.0), 0.0), ((0.25,) * 4, 2.0), ((0.5, 0.25, 0.25), 1.5), ((0.9, 0.1), 0.4689956)],
)
def test_entropy_in_bits(values: tuple[float, ...], bits: float) -> None:
    assert entropy_bits(of(*values))[0, 0] == pytest.approx(bits, abs=1e-6)


def test_two_sure_heads_that_contradict_disagree_by_one_bit() -> None:
    found = disagreement([of(1, 0), of(0, 1)])
    assert found.mean.ravel().tolist() == [0.5, 0.5]
    assert found.entropy.item() == pytest.approx(1)
    assert found.expected_entropy.item() == 0
    assert found.mutual_information.item() == pytest.approx(1)
    assert found.variance.item() == pytest.approx(0.25)


def test_two_unsure_heads_that_agree_do_not_disagree() -> None:
    found = disagreement([of(0.5, 0.5), of(0.5, 0.5)])
    assert (found.entropy.item(), found.expected_entropy.item()) == (pytest.approx(1), pytest.approx(1))
    assert (found.mutual_information.item(), found.variance.item()) == (0, 0)


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, (3, 4, 2, 2), elements=st.floats(0.0009765625, 1, width=32)))
def test_information_lies_between_nothing_and_everything(raw: NDArray[np.float32]) -> None:
    heads = list(raw / raw.sum(axis=1, keepdims=True))
    found = disagreement(heads)
    assert (found.mutual_information >= 0).all()
    assert (found.mutual_information <= found.entropy + 1e-5).all()
    assert (found.entropy <= math.log2(4) + 1e-5).all()
    assert np.allclose(found.expected_entropy + found.mutual_information, found.entropy, atol=1e-5)


def test_heads_of_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="one shape"):
        disagreement([of(1, 0), of(1, 0, 0)])
    with pytest.raises(DataError, match="none"):
        disagreement([])


def test_values_come_back_to_the_frame_and_letterbox_bars_are_cut() -> None:
    spec = PreprocessSpec(height=8, width=8, resize="letterbox")
    values = np.full((8, 8), 9, np.float32)
    values[2:6] = np.linspace(0, 1, 8, dtype=np.float32)  # a 16x8 frame lies in rows 2..5
    back = restore_values(values, 8, 16, spec)
    assert back.shape == (8, 16)
    assert back.max() <= 1
    assert np.allclose(back[:, 8], 3.75 / 7, atol=1e-6)  # half-pixel: column 8 lies at 3.75 of the input
    assert np.array_equal(restore_values(values, 8, 8, PreprocessSpec(height=8, width=8)), values)


def test_a_heat_map_leaves_certain_pixels_alone() -> None:
    frame = np.full((2, 2, 3), 100, np.uint8)
    values = np.array([[0, 1], [0.5, 0]], np.float32)
    picture = draw_heat(frame, values, 1.0)
    assert picture[0, 0].tolist() == picture[1, 1].tolist() == [100, 100, 100]
    assert picture[0, 1].min() > 100, "inferno ends in pale yellow"
    assert picture[1, 0].tolist() != [100, 100, 100]
    assert (frame == 100).all()
