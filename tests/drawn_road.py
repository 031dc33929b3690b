"""A camera with known optics over a flat road, and masks of lines whose curves are known exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_unet.segment.lanes.calibration import Calibration, GroundPoint, ImageSize, View

WIDTH, HEIGHT = 960, 540
FOCAL, CAMERA_M, HORIZON, MIDDLE = 900.0, 1.3, 250.0, 470.0
LINE_M = 0.15

Curve = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Metres ahead -> metres to the right."""


def pixel(x: float, y: float) -> tuple[float, float]:
    """Where the pinhole sees ground point (x right, y ahead)."""
    return MIDDLE + FOCAL * x / y, HORIZON + FOCAL * CAMERA_M / y


def calibration(**view: float) -> Calibration:
    """Four points of that camera."""
    corners = [(-2.0, 6.0), (2.0, 6.0), (-2.0, 30.0), (2.0, 30.0)]
    points = tuple(GroundPoint(image=pixel(*corner), ground=corner) for corner in corners)
    return Calibration(image=ImageSize(width=WIDTH, height=HEIGHT), points=points, view=View(**view))


def arc(radius_m: float, base_m: float, slope: float = 0.0) -> Curve:
    """A line that bends with `radius_m` (positive: to the right), as a parabola."""
    return lambda y: base_m + slope * y + y * y / (2 * radius_m)


def straight(base_m: float, slope: float = 0.0) -> Curve:
    return lambda y: base_m + slope * y


def paint(curves: list[Curve], dashes: dict[int, tuple[float, float]] | None = None) -> NDArray[np.uint8]:
    """(HEIGHT, WIDTH) mask of lines; `dashes` gives (paint, period) in metres for some of them."""
    v, u = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    below = np.maximum(v - HORIZON, 1e-6)
    ahead = FOCAL * CAMERA_M / below
    side = (u - MIDDLE) * ahead / FOCAL
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number, curve in enumerate(curves):
        on = (np.abs(side - curve(ahead)) <= LINE_M / 2) & (v > HORIZON) & (ahead < 60)
        if dashes and number in dashes:
            length, period = dashes[number]
            on &= ahead % period < length
        mask[on] = 1
    return mask
