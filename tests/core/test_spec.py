"""The values that cross boundaries: grids, frames, masks."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from edge_unet.core.spec import (
    ClassSpec,
    PreprocessSpec,
    TensorSpec,
    feed_from_pixels,
    logits_from_output,
    mask_from_logits,
    mask_from_output,
)

PREPROCESS = PreprocessSpec(height=4, width=4)
ALL_PIXELS = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)


def spec(dtype: str, layout: str = "NHWC", scale: float | None = 1 / 64, zero: int | None = 0) -> TensorSpec:
    grid = {"scale": scale, "zero_point": zero} if dtype in ("int8", "uint8") else {}
    return TensorSpec.model_validate(
        {"name": "image", "shape": (1, 16, 16, 3), "dtype": dtype, "layout": layout, **grid}
    )


def test_every_pixel_value_lies_on_the_int8_grid() -> None:
    real = PREPROCESS.normalize(ALL_PIXELS)
    codes = np.rint(real * 64)
    assert np.array_equal(codes, ALL_PIXELS.astype(np.float32) - 128)
    assert np.array_equal(codes / 64, real)


def test_the_same_frame_in_every_dtype_is_the_same_real_input() -> None:
    real = feed_from_pixels(ALL_PIXELS, spec("float32"), PREPROCESS)
    int8 = feed_from_pixels(ALL_PIXELS, spec("int8"), PREPROCESS)
    uint8 = feed_from_pixels(ALL_PIXELS, spec("uint8", zero=128), PREPROCESS)
    assert int8.dtype == np.int8
    assert np.array_equal(int8.astype(np.float32) / 64, real)
    assert np.array_equal((uint8.astype(np.float32) - 128) / 64, real)


def test_nchw_feed_is_the_transposed_frame() -> None:
    feed = feed_from_pixels(ALL_PIXELS, spec("uint8", "NCHW", zero=128), PREPROCESS)
    assert feed.shape == (1, 3, 16, 16)
    assert np.array_equal(feed[0, 1], ALL_PIXELS[0, :, :, 1])


def test_integer_logits_become_real_ones_in_nchw() -> None:
    sink = TensorSpec(name="logits", shape=(1, 2, 2, 1), dtype="int8", layout="NHWC", scale=0.0625, zero_point=0)
    raw = np.array([[-128, -1], [0, 127]], np.int8).reshape(1, 2, 2, 1)
    logits = logits_from_output(raw, sink)
    assert logits.shape == (1, 1, 2, 2)
    assert logits[0, 0].tolist() == [[-8.0, -0.0625], [0.0, 7.9375]]
    assert mask_from_logits(logits)[0].tolist() == [[0, 0], [0, 1]]


def test_float_logits_with_a_grid_are_rounded_by_the_reader() -> None:
    sink = TensorSpec(name="logits", shape=(1, 1, 1, 4), dtype="float32", layout="NCHW", scale=0.0625, zero_point=0)
    raw = np.array([0.03, 0.0313, -9.0, 9.0], np.float32).reshape(1, 1, 1, 4)
    assert logits_from_output(raw, sink).ravel().tolist() == [0.0, 0.0625, -8.0, 7.9375]


def test_multiclass_mask_is_argmax_with_the_lower_id_on_ties() -> None:
    logits = np.array([[1, 0], [1, 2], [0, 2]], np.float32).reshape(1, 3, 1, 2)
    assert mask_from_logits(logits)[0].tolist() == [[0, 1]]


def test_an_integer_tensor_without_a_grid_is_refused() -> None:
    with pytest.raises(ValidationError, match="has no scale and zero point"):
        TensorSpec(name="x", shape=(1,), dtype="int8", layout="NCHW")


def test_classes_need_a_colour_each_and_binary_has_one_channel() -> None:
    assert ClassSpec(names=("a", "b"), palette=((0, 0, 0), (1, 1, 1))).channels == 1
    assert ClassSpec(names=("a", "b", "c"), palette=((0, 0, 0),) * 3).channels == 3
    with pytest.raises(ValidationError, match="as many colours"):
        ClassSpec(names=("a", "b"), palette=((0, 0, 0),))


def test_grey_needs_one_channel() -> None:
    with pytest.raises(ValidationError, match="color_order"):
        PreprocessSpec(height=8, width=8, channels=1)


@pytest.mark.parametrize("channels", [1, 3, 11])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point"),
    [
        ("int8", 0.0625, 0),
        ("int8", 0.0625, -3),
        ("uint8", 0.0625, 128),
        ("float32", None, None),
        ("float32", 0.0625, 0),
    ],
)
def test_a_mask_read_from_the_output_is_that_of_the_logits(
    channels: int, layout: str, dtype: str, scale: float | None, zero_point: int | None
) -> None:
    shape = (2, channels, 33, 31) if layout == "NCHW" else (2, 33, 31, channels)
    sink = TensorSpec(name="logits", shape=shape, dtype=dtype, layout=layout, scale=scale, zero_point=zero_point)
    rng = np.random.default_rng(0)
    if dtype == "float32":  # many exactly on 0, on half a step and beside it
        raw = (rng.integers(-40, 41, shape) / 64).astype(np.float32)
    else:
        raw = (
            rng.integers(100, 150, shape).astype(np.uint8) if dtype == "uint8" else rng.integers(-9, 9, shape, np.int8)
        )
    expected = mask_from_logits(logits_from_output(raw, sink))
    got = mask_from_output(raw, sink)
    assert got.dtype == np.uint8
    assert len(np.unique(expected)) == max(2, channels)
    assert (got == expected).all()
