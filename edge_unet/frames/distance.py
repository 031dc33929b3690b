"""How far every pixel of a mask is from a region of it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def distance_to(region: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(H, W): Euclidean distance in pixels between centres, from each pixel to the nearest one of `region`.

    It is the root of the whole number that its square is: opencv's own roots differ in the last bit with where the
    memory happens to lie, and trainings and measurements would with them.
    """
    rooted = cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    exact: NDArray[np.float32] = np.sqrt(np.rint(np.square(rooted, dtype=np.float64))).astype(np.float32)
    return exact
