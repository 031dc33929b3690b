"""The overlay of the camera, drawn into buffers that are used again for every frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.spec import ClassSpec


class Painter:
    """Draws what segment.overlay.draw_mask draws, to the pixel, without taking memory for each frame and only where
    the mask is not background. The picture is valid until the next one is drawn."""

    def __init__(self, classes: ClassSpec) -> None:
        self._classes = classes
        self._table = np.zeros((1, 256, 3), np.uint8)
        self._table[0, : len(classes.palette)] = classes.palette
        self._shown = np.zeros(256, np.uint8)
        self._shown[1 : len(classes.palette)] = 1
        self._picture = np.zeros((0, 0, 3), np.uint8)
        self._colours = np.zeros((0, 0, 3), np.uint8)

    def __call__(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8], alpha: float) -> NDArray[np.uint8]:
        """(H, W, 3) RGB frame and (H, W) class ids -> (H, W, 3) RGB."""
        if self._picture.shape != frame.shape:
            self._picture, self._colours = np.empty_like(frame), np.empty_like(frame)
        np.copyto(self._picture, frame)
        left, top, width, height = cv2.boundingRect(cv2.LUT(mask, self._shown))
        if width and height:
            area = (slice(top, top + height), slice(left, left + width))
            self._mix(frame[area], mask[area], alpha, area)
            self._outline(mask)
        return self._picture

    def _mix(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8], alpha: float, area: tuple[slice, slice]) -> None:
        colours = self._colours[area]
        cv2.cvtColor(mask, cv2.COLOR_GRAY2RGB, dst=colours)
        cv2.LUT(colours, self._table, dst=colours)
        cv2.addWeighted(frame, 1 - alpha, colours, alpha, 0, dst=colours)
        cv2.copyTo(colours, cv2.LUT(mask, self._shown), self._picture[area])

    def _outline(self, mask: NDArray[np.uint8]) -> None:
        width = max(1, mask.shape[0] // 300)
        for value in range(1, min(len(self._classes.palette), int(mask.max(initial=0)) + 1)):
            part = cv2.compare(mask, value, cv2.CMP_EQ)
            outline, _ = cv2.findContours(part, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
            colour = tuple(int(c) for c in self._classes.palette[value])
            cv2.drawContours(self._picture, outline, -1, colour, width, cv2.LINE_AA)
