"""Lanes drawn into the frame and into a small bird's-eye picture."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.segment.annotate import AMBER, CYAN, DIM, RED, WHITE, Colour, draw_label, draw_path, tint
from edge_unet.segment.lanes.birdseye import BirdsEye
from edge_unet.segment.lanes.curve import LaneCurve
from edge_unet.segment.lanes.departure import Side
from edge_unet.segment.lanes.track import EgoLane, TrackedLine

STEPS = 40
NARROWEST = 0.7
"""Least width of the inset, of its height: a metre to the side matters more than a metre ahead."""


def draw_lanes(
    picture: NDArray[np.uint8], birdseye: BirdsEye, lines: Sequence[TrackedLine], lane: EgoLane, warning: Side | None
) -> None:
    """The lines of the ego lane, its area as a thin tint, the other lines dimmed. RGB, in place."""
    if lane.left is not None and lane.right is not None:
        near = birdseye.calibration.view.near_m
        far = min(lane.left.curve.far_m, lane.right.curve.far_m)
        sides = [birdseye.pixels_of(_points(line.curve, near, far)) for line in (lane.left, lane.right)]
        area = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(area, [_whole(np.vstack([sides[0], sides[1][::-1]]))], 1)
        tint(picture, area, RED if warning else CYAN, 0.15)
    for line in lines:
        ahead = _points(line.curve, line.curve.near_m, line.curve.far_m)
        draw_path(picture, _whole(birdseye.pixels_of(ahead)), _colour(line, lane, warning), closed=False)


def birdseye_inset(
    mask: NDArray[np.uint8],
    frame: NDArray[np.uint8],
    birdseye: BirdsEye,
    lines: Sequence[TrackedLine],
    lane: EgoLane,
    warning: Side | None,
    height: int,
) -> NDArray[np.uint8]:
    """(H, W) mask and (H, W, 3) RGB frame -> the view from above at `height` pixels: road, paint in amber, curves, the
    vehicle's middle as an arrow at the bottom, a mark every 10 m. A long narrow view is stretched sideways."""
    width = max(round(birdseye.size[0] * height / birdseye.size[1]), round(height * NARROWEST))
    inset = birdseye.warp(frame, (width, height))
    tint(inset, birdseye.warp(mask, (width, height)), AMBER, 0.6)
    scale = np.array([width / birdseye.size[0], height / birdseye.size[1]])
    for line in lines:
        ahead = birdseye.picture_of(_points(line.curve, line.curve.near_m, line.curve.far_m)) * scale
        draw_path(inset, _whole(ahead), _colour(line, lane, warning), closed=False, thickness=1)
    view = birdseye.calibration.view
    for metres in range(10 * (int(view.near_m) // 10 + 1), int(view.far_m) + 1, 10):
        (x, y), *_ = birdseye.picture_of(np.array([[-view.half_width_m, metres]])) * scale
        cv2.line(inset, (round(x), round(y)), (round(x) + 6, round(y)), WHITE, 1)
        draw_label(inset, f"{metres} m", (x + 9, y + 4), DIM)
    cv2.arrowedLine(inset, (width // 2, height - 2), (width // 2, height - 14), WHITE, 1, cv2.LINE_AA, tipLength=0.5)
    return inset


def _points(curve: LaneCurve, near: float, far: float) -> NDArray[np.float64]:
    return curve.along(np.linspace(near, max(near, far), STEPS))


def _whole(points: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.asarray(np.rint(np.clip(points, -20000, 20000)), np.int32)


def _colour(line: TrackedLine, lane: EgoLane, warning: Side | None) -> Colour:
    beside = {"left": lane.left, "right": lane.right}
    if warning and beside[warning] is line:
        return RED
    return CYAN if line in (lane.left, lane.right) else DIM
