"""Orders of axes, against numpy: whatever layout.py says moves no number, must move none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_unet.targets.tflite.layout import (
    NHWC,
    joined_axes,
    joined_moves,
    lying,
    moves,
    plain,
    reshaped,
    same_bytes,
    standing,
    transposed,
)

SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=6)


@st.composite
def shape_and_order(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    shape = tuple(draw(SHAPES))
    return shape, tuple(draw(st.permutations(range(len(shape)))))


def _numbers(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape)


@given(shape_and_order(), st.data())
def test_a_transpose_is_another_order_of_the_same_bytes(
    case: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    shape, order = case
    permutation = data.draw(st.permutations(range(len(shape))))
    real = _numbers(shape)
    in_file = real.transpose(order)
    result = transposed(order, permutation)
    assert in_file.shape == lying(shape, order)
    assert standing(in_file.shape, order) == shape
    np.testing.assert_array_equal(in_file, real.transpose(permutation).transpose(result))


@given(shape_and_order(), st.data())
def test_moves_is_what_a_transpose_op_needs(case: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject) -> None:
    shape, have = case
    want = tuple(data.draw(st.permutations(range(len(shape)))))
    real = _numbers(shape)
    lies = real.transpose(have)
    wanted = real.transpose(want)
    np.testing.assert_array_equal(lies.transpose(moves(have, want)), wanted)
    assert same_bytes(shape, have, want) == np.array_equal(lies.ravel(), wanted.ravel())
    sizes, axes = joined_moves(lies.shape, moves(have, want))
    np.testing.assert_array_equal(lies.reshape(sizes).transpose(axes).reshape(wanted.shape), wanted)
    assert len(sizes) == sum(size != 1 for size in sizes)


@settings(max_examples=300)
@given(shape_and_order(), st.data())
def test_a_reshape_that_moves_nothing_is_one(
    case: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    shape, order = case
    cuts = data.draw(st.lists(st.integers(1, 4), max_size=3))
    result = [int(np.prod(shape))]
    for cut in cuts:
        result = [*result[:-1], cut, result[-1] // cut] if result[-1] % cut == 0 else [1, *result]
    real = _numbers(shape)
    found = reshaped(shape, order, result)
    if order == plain(len(shape)):
        assert found is not None
    if found is not None:
        in_file = real.transpose(order).ravel()
        np.testing.assert_array_equal(in_file, real.reshape(result).transpose(found).ravel())


@pytest.mark.parametrize(
    ("shape", "order", "result", "expected"),
    [
        ((1, 6, 4, 4), NHWC, (1, 6, 16), (0, 2, 1)),  # tokens behind an image: still channels last
        ((1, 6, 16), (0, 2, 1), (1, 6, 4, 4), NHWC),
        ((1, 6, 4, 4), NHWC, (1, 2, 3, 16), (0, 3, 1, 2)),  # heads
        ((1, 6, 4, 4), NHWC, (6, 16), (1, 0)),
        ((1, 6, 4, 4), NHWC, (24, 4), None),  # channels and rows in one axis
        ((1, 6, 1, 1), NHWC, (1, 6), (0, 1)),
        ((2, 3, 4), (0, 1, 2), (6, 4), (0, 1)),
    ],
)
def test_known_reshapes(
    shape: tuple[int, ...], order: tuple[int, ...], result: tuple[int, ...], expected: tuple[int, ...] | None
) -> None:
    assert reshaped(shape, order, result) == expected


def test_axes_that_stay_as_they_are_are_joined() -> None:
    assert joined_axes((2, 3, 4, 5, 6, 7), [3]) == ((24, 5, 42), (1,))
    assert joined_axes((2, 3, 4), [0, 2]) == ((2, 3, 4), (0, 2))
    assert joined_axes((2, 3, 4), []) == ((24,), ())
