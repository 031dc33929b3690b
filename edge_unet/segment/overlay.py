"""A mask drawn over its frame: class colours, outlines and lines of text."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.spec import ClassSpec
from edge_unet.frames.overlay import draw_overlay


def draw_mask(
    frame: NDArray[np.uint8], mask: NDArray[np.uint8], classes: ClassSpec, alpha: float = 0.45
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB frame and (H, W) class ids -> (H, W, 3) RGB. Background and ignored pixels stay as they are."""
    picture = draw_overlay(frame, mask, classes, alpha=alpha)
    for value in range(1, min(len(classes.palette), int(mask.max(initial=0)) + 1)):
        outline, _ = cv2.findContours(cv2.compare(mask, value, cv2.CMP_EQ), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        colour = tuple(int(c) for c in classes.palette[value])
        cv2.drawContours(picture, outline, -1, colour, max(1, frame.shape[0] // 300), cv2.LINE_AA)
    return picture


def draw_lines(picture: NDArray[np.uint8], lines: Sequence[str]) -> NDArray[np.uint8]:
    """Write lines of text into the top left corner of an RGB picture, in place, on a dark plate."""
    scale = max(0.4, picture.shape[0] / 900)
    step = int(26 * scale) + 4
    width = max((cv2.getTextSize(line, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0] for line in lines), default=0) + 16
    plate = picture[: step * len(lines) + 8, :width]
    plate[:] = plate // 3
    for number, line in enumerate(lines, start=1):
        place = (8, step * number)
        cv2.putText(picture, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def draw_legend(picture: NDArray[np.uint8], classes: ClassSpec) -> NDArray[np.uint8]:
    """Name the foreground classes in their colours along the bottom edge of an RGB picture, in place."""
    scale = max(0.4, picture.shape[0] / 900)
    left, base = 8, picture.shape[0] - 10
    for name, colour in list(zip(classes.names, classes.palette, strict=True))[1:]:
        (width, height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        if left + width + height + 16 > picture.shape[1]:
            break
        fill = tuple(int(c) for c in colour)
        cv2.rectangle(picture, (left, base - height), (left + height, base), fill, cv2.FILLED)
        place = (left + height + 6, base)
        cv2.putText(picture, name, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
        left += width + height + 22
    return picture
