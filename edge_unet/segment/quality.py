"""Whether a frame is good enough to be judged, and if not, why: blur, exposure, glare, a frozen picture.

Everything is measured on a copy 256 pixels wide, so that the limits do not depend on the frame's size, and only inside
the lit field: an endoscope's black surround says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

WORKING_WIDTH = 256
FIELD_GREY = 16
"""Grey level above which a pixel belongs to the lit field."""
HIGHLIGHT_LEVEL, HIGHLIGHT_SPREAD = 235, 4
"""A specular highlight is bright (its largest channel) and colourless: the smallest is at most a quarter below."""


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """What is still good. The defaults are explained in apps/endoscopy/README.md, with what they do on real frames."""

    sharpness: float = 12.0
    """Smallest variance of the Laplacian (grey levels squared)."""
    darkest: float = 30.0
    """Smallest mean grey of the lit field, 0..255."""
    clipped: float = 0.35
    """Largest share of the field with a channel at 250 or more."""
    highlights: float = 0.25
    """Largest share of the field that is specular highlight."""
    frozen_level: float = 0.2
    """Mean change of the grey levels up to which two frames are the same picture."""
    frozen_frames: int = 5
    """So many frames alike in a row are a frozen source."""


@dataclass(frozen=True, slots=True)
class FrameQuality:
    """What was measured on one frame. `reasons` says why it is refused; empty means good."""

    sharpness: float
    brightness: float
    clipped_share: float
    highlight_share: float
    frames_alike: int
    reasons: tuple[str, ...]

    @property
    def good(self) -> bool:
        """Whether the frame may be judged."""
        return not self.reasons


class QualityCheck:
    """Checks frame after frame; it remembers the last one to notice a frozen source."""

    def __init__(self, limits: QualityLimits | None = None) -> None:
        self.limits = limits or QualityLimits()
        self._previous: NDArray[np.uint8] | None = None
        self._alike = 1

    def __call__(self, frame: NDArray[np.uint8]) -> FrameQuality:
        """Measure an (H, W, 3) RGB frame."""
        height = max(1, round(frame.shape[0] * WORKING_WIDTH / frame.shape[1]))
        small = np.asarray(cv2.resize(frame, (WORKING_WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        field = lit_field(grey)
        red, green, blue = cv2.split(small)
        top = np.asarray(cv2.max(cv2.max(red, green), blue), np.uint8)
        spread = top - np.asarray(cv2.min(cv2.min(red, green), blue), np.uint8)
        glare = field & (top >= HIGHLIGHT_LEVEL) & (spread <= top // HIGHLIGHT_SPREAD)
        inside = max(1, int(np.count_nonzero(field)))
        values = (
            sharpness(grey, field, glare),
            float(grey[field].mean()),
            np.count_nonzero(field & (top >= 250)) / inside,
            np.count_nonzero(glare) / inside,
            self._count_alike(grey),
        )
        return FrameQuality(*values, reasons=_reasons(*values, self.limits))

    def _count_alike(self, grey: NDArray[np.uint8]) -> int:
        """How many frames in a row, this one included, are the same picture."""
        same = (
            self._previous is not None
            and self._previous.shape == grey.shape
            and float(cv2.absdiff(grey, self._previous).mean()) <= self.limits.frozen_level
        )
        self._alike = self._alike + 1 if same else 1
        self._previous = grey
        return self._alike


def lit_field(grey: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(h, w) grey -> (h, w) where the picture is: its largest lit area. The whole frame where hardly any is lit."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((grey > FIELD_GREY).astype(np.uint8), connectivity=8)
    if len(stats) < 2:
        return np.ones(grey.shape, np.bool_)
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if stats[largest, cv2.CC_STAT_AREA] < 0.1 * grey.size:
        return np.ones(grey.shape, np.bool_)
    return np.asarray(labels == largest)


def sharpness(grey: NDArray[np.uint8], field: NDArray[np.bool_], glare: NDArray[np.bool_]) -> float:
    """Variance of the Laplacian inside the field. Its rim and the rims of highlights are left out: they are sharp in
    a blurred frame too."""
    rim = np.ones((9, 9), np.uint8)
    padded = cv2.copyMakeBorder(field.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    inner = cv2.erode(padded, rim)[1:-1, 1:-1] > 0
    use = (inner & (cv2.dilate(glare.astype(np.uint8), rim) == 0)).astype(np.uint8)
    _, deviation = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F), mask=use)
    return float(deviation[0, 0]) ** 2


def _reasons(
    sharp: float, brightness: float, clipped: float, highlights: float, alike: int, limits: QualityLimits
) -> tuple[str, ...]:
    """What breaks a limit, each with the figure and the limit."""
    found = [
        (brightness < limits.darkest, f"too dark (mean {brightness:.0f}, at least {limits.darkest:.0f})"),
        (clipped > limits.clipped, f"over-exposed ({clipped:.0%} clipped, at most {limits.clipped:.0%})"),
        (highlights > limits.highlights, f"glare ({highlights:.0%}, at most {limits.highlights:.0%})"),
        (sharp < limits.sharpness, f"blurred (sharpness {sharp:.0f}, at least {limits.sharpness:.0f})"),
        (alike >= limits.frozen_frames, f"frozen ({alike} frames alike)"),
    ]
    return tuple(text for broken, text in found if broken)
