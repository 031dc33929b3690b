"""The mapping against a pinhole camera's own arithmetic, and what a calibration file may not be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_road import HEIGHT, WIDTH, calibration, paint, pixel, straight

from edge_unet.core.errors import UsageError
from edge_unet.segment.lanes.birdseye import BirdsEye
from edge_unet.segment.lanes.calibration import read_calibration

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "apps" / "lanes" / "calibration.example.toml"


def test_the_ground_is_where_the_pinhole_sees_it() -> None:
    eye = BirdsEye(calibration())
    ground = np.array([[x, y] for x in (-3.5, 0.0, 1.2) for y in (6.5, 12.0, 33.0)])
    pixels = np.array([pixel(*point) for point in ground])
    assert np.allclose(eye.ground_of(pixels), ground, atol=1e-3)
    assert np.allclose(eye.pixels_of(ground), pixels, atol=1e-2)
    assert np.allclose(eye.pixels_of(eye.ground_of(pixels)), pixels, atol=1e-6)


def test_parallel_lines_are_parallel_from_above() -> None:
    eye = BirdsEye(calibration(near_m=6, far_m=26, half_width_m=5, metres_per_pixel=0.05))
    assert eye.size == (200, 400)
    above = eye.warp(paint([straight(-1.5), straight(2.0)]))
    for row in (50, 200, 390):
        columns = np.nonzero(above[row])[0]
        left, right = columns[columns < 100], columns[columns >= 100]
        assert left.mean() == pytest.approx((-1.5 + 5) / 0.05, abs=1.5)
        assert right.mean() == pytest.approx((2.0 + 5) / 0.05, abs=1.5)


def test_far_is_up_in_the_picture() -> None:
    eye = BirdsEye(calibration(near_m=6, far_m=26, half_width_m=5, metres_per_pixel=0.1))
    assert eye.picture_of(np.array([[-5.0, 26.0], [5.0, 6.0]])).tolist() == [[0, 0], [100, 200]]


def test_the_rows_hold_the_view() -> None:
    first, last = BirdsEye(calibration(near_m=6, far_m=35)).rows
    assert first == int(pixel(0, 35)[1])
    assert last - pixel(0, 6)[1] == pytest.approx(1.5, abs=0.51)
    assert last <= HEIGHT


def test_another_size_is_refused() -> None:
    eye = BirdsEye(calibration())
    with pytest.raises(UsageError, match=f"frames are 640x480, the calibration is for {WIDTH}x{HEIGHT}"):
        eye.warp(np.zeros((480, 640), np.uint8))


def test_a_view_over_the_horizon_is_refused() -> None:
    """A tilted camera: one side of a wide view lies behind the picture's horizon."""
    text = EXAMPLE.read_text(encoding="utf-8").replace("[553.2, 349.8]", "[700.0, 499.0]")
    assert "700.0" in text
    from edge_unet.core.recipe import tomllib
    from edge_unet.segment.lanes.calibration import Calibration

    with pytest.raises(UsageError, match="over the horizon"):
        BirdsEye(Calibration.model_validate(tomllib.loads(text)))


def test_the_example_fits_its_video() -> None:
    example = read_calibration(EXAMPLE)
    assert (example.image.width, example.image.height) == (960, 540)
    eye = BirdsEye(example)
    right_line = eye.ground_of(np.array([[600.0, 378.0], [795.0, 496.0]]))  # read off the first frame
    assert np.allclose(right_line[:, 0], 2.04, atol=0.1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("width = 960", "width = 0", "image.width"),
        ("far_m = 32.0", "far_m = 2.0", "larger than near_m"),
        ("metres_per_pixel = 0.05", "metres_per_pixel = 0.001", "more than 8000 pixels"),
        ("[806.3, 502.4]", "[208.6, 502.4]", "lie on one line"),
        ("vehicle_width_m", "vehicle_width", "vehicle_width"),
        ("[image]", "[image", "not TOML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "camera.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(UsageError, match=message) as caught:
        read_calibration(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_tells_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"copy apps/lanes/calibration.example.toml"):
        read_calibration(tmp_path / "absent.toml")
