"""A mask as a list of regions: outline, area, centroid, box."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Region:
    """One 8-connected component of a mask. Pixels count from the frame's top left corner."""

    area_pixels: int
    share: float
    """Of the frame's pixels."""
    centroid: tuple[float, float]
    """x, y."""
    box: tuple[int, int, int, int]
    """left, top, width, height."""
    outline: NDArray[np.int32]
    """(n, 2) x, y of the outer contour."""

    def row(self) -> dict[str, Any]:
        """For a log: everything but the outline."""
        return {
            "area_pixels": self.area_pixels,
            "share": round(self.share, 5),
            "centroid": [round(v, 1) for v in self.centroid],
            "box": list(self.box),
        }


def regions_of(mask: NDArray[np.uint8], value: int = 1, smallest_pixels: int = 1) -> list[Region]:
    """(H, W) class ids -> the regions of class `value` of at least `smallest_pixels`, largest first."""
    part = (mask == value).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(part, connectivity=8)
    found = []
    for label in range(1, count):
        left, top, width, height, area = (int(v) for v in stats[label])
        if area < smallest_pixels:
            continue
        window = (labels[top : top + height, left : left + width] == label).astype(np.uint8)
        outlines, _ = cv2.findContours(window, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(left, top))
        outline = np.asarray(outlines[0], np.int32).reshape(-1, 2)  # one: the component is 8-connected
        centre = (float(centres[label][0]), float(centres[label][1]))
        found.append(Region(area, area / mask.size, centre, (left, top, width, height), outline))
    return sorted(found, key=lambda region: -region.area_pixels)


def box_overlap(one: Region, other: Region) -> float:
    """Intersection over union of two boxes."""
    left, top = max(one.box[0], other.box[0]), max(one.box[1], other.box[1])
    right = min(one.box[0] + one.box[2], other.box[0] + other.box[2])
    bottom = min(one.box[1] + one.box[3], other.box[1] + other.box[3])
    shared = max(0, right - left) * max(0, bottom - top)
    return shared / (one.box[2] * one.box[3] + other.box[2] * other.box[3] - shared)
