"""Reading image files, and the one resize."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_unet.core.errors import DataError
from edge_unet.core.spec import PreprocessSpec
from edge_unet.frames import read_frame, read_mask, resize_frame, resize_labels, restore_mask, write_png


def test_colour_order(tmp_path: Path) -> None:
    red = np.zeros((4, 5, 3), np.uint8)
    red[..., 0] = 200
    write_png(tmp_path / "red.png", red)
    assert np.array_equal(read_frame(tmp_path / "red.png"), red)
    assert np.array_equal(read_frame(tmp_path / "red.png", "BGR"), red[..., ::-1])
    assert read_frame(tmp_path / "red.png", "GRAY").shape == (4, 5, 1)


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("alpha.png", np.zeros((4, 4, 4), np.uint8), "alpha channel"),
        ("deep.png", np.zeros((4, 4, 3), np.uint16), "expected 8 bits"),
    ],
)
def test_wrong_modes_are_named(tmp_path: Path, name: str, image: np.ndarray, message: str) -> None:
    cv2.imwrite(str(tmp_path / name), image)
    with pytest.raises(DataError, match=message):
        read_frame(tmp_path / name)


def test_unreadable_files_and_coloured_masks_are_named(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    with pytest.raises(DataError, match=r"cut\.jpg: not a readable image"):
        read_frame(tmp_path / "cut.jpg")
    with pytest.raises(DataError, match="cannot read"):
        read_frame(tmp_path / "absent.jpg")
    write_png(tmp_path / "mask.png", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(DataError, match="expected one 8-bit channel"):
        read_mask(tmp_path / "mask.png")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from(["stretch", "letterbox"]))
def test_labels_are_never_interpolated(height: int, width: int, resize: str) -> None:
    spec = PreprocessSpec(height=32, width=48, resize=resize)  # type: ignore[arg-type]
    mask = np.random.default_rng(0).choice(np.array([0, 3, 255], np.uint8), (height, width))
    small = resize_labels(mask, spec, fill=7)
    assert small.shape == (32, 48)
    assert set(np.unique(small)) <= {*np.unique(mask), 7}
    back = restore_mask(small, height, width, spec)
    assert back.shape == (height, width)
    assert 7 not in back, "the bars are cut, not stretched into the picture"


def test_letterbox_keeps_the_shape_and_pads_with_grey() -> None:
    spec = PreprocessSpec(height=32, width=32, resize="letterbox")
    out = resize_frame(np.full((10, 40, 3), 250, np.uint8), spec)
    assert (out[12:20] == 250).all()
    assert (out[:12] == 128).all()
    assert (out[20:] == 128).all()


def test_a_frame_of_the_right_size_is_untouched() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    assert np.array_equal(resize_frame(frame, PreprocessSpec(height=16, width=16)), frame)
