"""RGB frames in the colour order that a network wants."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def in_order(frame: NDArray[np.uint8], color_order: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB -> (H, W, C) in the order of a PreprocessSpec. RGB is given back as it is."""
    if color_order == "RGB":
        return frame
    if color_order == "BGR":
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), np.uint8)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)[..., None]  # (H, W, 1)
