"""Drawing that can be read on any frame, RGB, in place: outlines with a dark rim, labels and panels on dark plates."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)
DIM: Colour = (190, 196, 204)
GREEN: Colour = (96, 230, 130)
AMBER: Colour = (255, 190, 60)
RED: Colour = (255, 92, 92)
CYAN: Colour = (70, 220, 255)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def enlarged(picture: NDArray[np.uint8], least_height: int = 480) -> tuple[NDArray[np.uint8], int]:
    """A copy of an (H, W, 3) picture that is large enough to write on, and the whole factor it was enlarged by."""
    factor = -(-least_height // picture.shape[0])
    if factor <= 1:
        return picture.copy(), 1
    size = (picture.shape[1] * factor, picture.shape[0] * factor)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8), factor


def moved(points: NDArray[np.int32], factor: int) -> NDArray[np.int32]:
    """x, y of pixels -> x, y of their middles in a picture enlarged by `factor`."""
    return np.asarray(points * factor + factor // 2, np.int32)


def text_scale(picture: NDArray[np.uint8]) -> float:
    """The font's scale for a picture: legible on a small one, not shouting on a large one."""
    return float(np.clip(picture.shape[0] / 1100, 0.36, 1.2))


def draw_path(
    picture: NDArray[np.uint8], points: NDArray[np.int32], colour: Colour, *, closed: bool, thickness: int | None = None
) -> None:
    """A line through (n, 2) x, y points, with a dark rim so that it shows on bright and dark alike."""
    wide = thickness or max(1, round(picture.shape[0] / 300))
    line = [points.reshape(-1, 1, 2)]
    cv2.polylines(picture, line, closed, (0, 0, 0), wide + 2, cv2.LINE_AA)
    cv2.polylines(picture, line, closed, colour, wide, cv2.LINE_AA)


def draw_cross(picture: NDArray[np.uint8], place: tuple[float, float], colour: Colour) -> None:
    """A small cross."""
    x, y, arm = round(place[0]), round(place[1]), max(3, picture.shape[0] // 90)
    for wide, paint in ((3, (0, 0, 0)), (1, colour)):
        cv2.line(picture, (x - arm, y), (x + arm, y), paint, wide, cv2.LINE_AA)
        cv2.line(picture, (x, y - arm), (x, y + arm), paint, wide, cv2.LINE_AA)


def draw_label(picture: NDArray[np.uint8], text: str, place: tuple[float, float], colour: Colour = WHITE) -> None:
    """Text with its lower left corner near x, y, on a dark plate, moved inside the picture."""
    scale = text_scale(picture)
    (width, height), under = cv2.getTextSize(text, FONT, scale, 1)
    x = int(np.clip(place[0], 2, max(2, picture.shape[1] - width - 6)))
    y = int(np.clip(place[1], height + 4, max(height + 4, picture.shape[0] - under - 2)))
    _plate(picture, x - 3, y - height - 4, x + width + 3, y + under + 1)
    cv2.putText(picture, text, (x, y), FONT, scale, colour, 1, cv2.LINE_AA)


def draw_panel(picture: NDArray[np.uint8], lines: Sequence[tuple[str, Colour]], corner: str = "top left") -> None:
    """Lines of text, each in its colour, on one dark plate in a corner ("bottom right")."""
    scale = text_scale(picture)
    sizes = [cv2.getTextSize(text, FONT, scale, 1)[0] for text, _ in lines]
    if not sizes:
        return
    step = round(max(height for _, height in sizes) * 1.75)
    width, height = max(w for w, _ in sizes) + 16, step * len(lines) + 8
    left = picture.shape[1] - width if "right" in corner else 0
    top = picture.shape[0] - height if "bottom" in corner else 0
    _plate(picture, left, top, left + width, top + height)
    for number, (text, colour) in enumerate(lines, start=1):
        place = (left + 8, top + step * number)
        cv2.putText(picture, text, place, FONT, scale, colour, 1, cv2.LINE_AA)


def draw_inset(picture: NDArray[np.uint8], inset: NDArray[np.uint8], corner: str = "top right") -> None:
    """A small picture in a corner, with a thin frame; cut where it does not fit."""
    height, width = min(inset.shape[0], picture.shape[0]), min(inset.shape[1], picture.shape[1])
    left = picture.shape[1] - width if "right" in corner else 0
    top = picture.shape[0] - height if "bottom" in corner else 0
    picture[top : top + height, left : left + width] = inset[:height, :width]
    cv2.rectangle(picture, (left, top), (left + width - 1, top + height - 1), DIM, 1)


def tint(picture: NDArray[np.uint8], mask: NDArray[np.uint8], colour: Colour, opacity: float) -> None:
    """Mix the pixels of a mask with a colour."""
    left, top, width, height = cv2.boundingRect(mask)
    if opacity > 0 and width:
        window = picture[top : top + height, left : left + width]
        plain = np.full_like(window, colour)
        mixed = cv2.addWeighted(window, 1 - opacity, plain, opacity, 0)
        cv2.copyTo(mixed, mask[top : top + height, left : left + width], window)


def _plate(picture: NDArray[np.uint8], left: int, top: int, right: int, bottom: int) -> None:
    """Darken a rectangle, so that light text stands on it."""
    area = picture[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
    area[:] = area // 5
