"""Inverse perspective mapping: image to flat ground and back by a homography, and the bird's-eye picture."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.segment.lanes.calibration import Calibration

Points = NDArray[np.float64]
"""(n, 2)."""


class BirdsEye:
    """The mapping of one calibration."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        image = np.asarray([p.image for p in calibration.points], np.float32)
        ground = np.asarray([p.ground for p in calibration.points], np.float32)
        self._to_ground = np.asarray(cv2.getPerspectiveTransform(image, ground), np.float64)
        self._to_image = np.asarray(np.linalg.inv(self._to_ground), np.float64)
        view = calibration.view
        step = view.metres_per_pixel
        self.size = (round(2 * view.half_width_m / step), round((view.far_m - view.near_m) / step))
        """Width, height of the bird's-eye picture."""
        self._to_picture = np.array(
            [[1 / step, 0, view.half_width_m / step], [0, -1 / step, view.far_m / step], [0, 0, 1]]
        )
        self._require_view_below_horizon()
        self.rows = self._image_rows()
        """First and last image row (exclusive) that see the view."""

    def ground_of(self, pixels: Points) -> Points:
        """Image x, y -> ground x, y in metres."""
        return _mapped(self._to_ground, pixels)

    def pixels_of(self, ground: Points) -> Points:
        """Ground x, y in metres -> image x, y."""
        return _mapped(self._to_image, ground)

    def picture_of(self, ground: Points) -> Points:
        """Ground x, y in metres -> x, y in the bird's-eye picture: far is up."""
        return _mapped(self._to_picture, ground)

    def warp(self, picture: NDArray[np.uint8], size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
        """(H, W[, C]) frame or mask -> the bird's-eye picture, or the same squeezed to width, height `size`.

        Raises UsageError where the picture's size is not the calibration's.
        """
        self.require_size(picture.shape[1], picture.shape[0])
        size = size or self.size
        squeeze = np.diag([size[0] / self.size[0], size[1] / self.size[1], 1.0])
        mode = cv2.INTER_LINEAR if picture.ndim == 3 else cv2.INTER_NEAREST
        mapping = squeeze @ self._to_picture @ self._to_ground
        return np.asarray(cv2.warpPerspective(picture, mapping, size, flags=mode), np.uint8)

    def require_size(self, width: int, height: int) -> None:
        """Raise UsageError where frames are not of the size that was calibrated."""
        size = self.calibration.image
        if (width, height) != (size.width, size.height):
            raise UsageError(
                f"frames are {width}x{height}, the calibration is for {size.width}x{size.height}; calibrate this "
                "camera at this size"
            )

    def _require_view_below_horizon(self) -> None:
        view = self.calibration.view
        sides, ends = (-view.half_width_m, view.half_width_m), (view.near_m, view.far_m)
        corners = np.array([[x, y, 1] for y in ends for x in sides], np.float64)
        depth = corners @ self._to_image[2]
        if depth.min() * depth.max() <= 0:
            raise UsageError("calibration: the view reaches over the horizon; lower far_m or half_width_m")

    def _image_rows(self) -> tuple[int, int]:
        view, height = self.calibration.view, self.calibration.image.height
        corners = [[x, y] for y in (view.near_m, view.far_m) for x in (-view.half_width_m, view.half_width_m)]
        rows = self.pixels_of(np.asarray(corners, np.float64))[:, 1]
        first, last = max(0, int(np.floor(rows.min()))), min(height, int(np.ceil(rows.max())) + 1)
        if first >= last:
            raise UsageError(f"calibration: the image (0..{height}) sees nothing of the view; check points and near_m")
        return first, last


def _mapped(matrix: NDArray[np.float64], points: Points) -> Points:
    moved = np.column_stack([points, np.ones(len(points))]) @ matrix.T  # (n, 3)
    return np.asarray(moved[:, :2] / moved[:, 2:])
