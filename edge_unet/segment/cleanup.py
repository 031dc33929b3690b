"""Morphological clean-up of masks, as an option: opening, closing, removal of small components and filling of holes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Cleanup:
    """What to do to every class but the background, in this order. Zero switches a step off.

    `opening` and `closing` are diameters in pixels of a round structuring element; components and holes smaller
    than the given areas (pixels, 8-connected) go to the background and to the class around them.
    """

    opening: int = 0
    closing: int = 0
    smallest_component_pixels: int = 0
    largest_hole_pixels: int = 0

    def __post_init__(self) -> None:
        values = (self.opening, self.closing, self.smallest_component_pixels, self.largest_hole_pixels)
        if min(values) < 0:
            raise UsageError(f"clean-up sizes must not be negative, received {values}")

    def __call__(self, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) class ids -> (H, W) class ids. Lower ids give way to higher ones where closing makes them meet."""
        cleaned = np.zeros_like(mask)
        for value in range(1, int(mask.max(initial=0)) + 1):
            part = (mask == value).astype(np.uint8)
            if part.any():
                cleaned[self._one(part) > 0] = value
        return cleaned

    def _one(self, part: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Clean one class, 0/1."""
        for size, operation in ((self.opening, cv2.MORPH_OPEN), (self.closing, cv2.MORPH_CLOSE)):
            if size > 1:
                element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
                part = np.asarray(cv2.morphologyEx(part, operation, element), np.uint8)
        if self.smallest_component_pixels:
            part = without_small(part, self.smallest_component_pixels)
        if self.largest_hole_pixels:
            part = 1 - without_small(1 - part, self.largest_hole_pixels + 1)
        return part


def without_small(part: NDArray[np.uint8], smallest_pixels: int) -> NDArray[np.uint8]:
    """(H, W) 0/1 -> the same without 8-connected components of fewer than `smallest_pixels` pixels."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= smallest_pixels
    keep[0] = False
    return np.asarray(keep[labels].astype(np.uint8))
