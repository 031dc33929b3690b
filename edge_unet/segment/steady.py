"""A steady mask from unsteady probabilities: exponential smoothing, then one threshold to switch on and a lower one to
switch off, so that an outline does not flicker. Reset at a scene cut: what was there says nothing about what is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.segment.quality import FIELD_GREY

LEAST_LIT = 64
"""Of 1024 pixels, below which two frames have nothing in common to compare."""


@dataclass(frozen=True, slots=True)
class Hysteresis:
    """`rate` is the weight of the newest frame. A pixel switches on at `on` and off below `off`.

    Noise of an amplitude below (on - off) / 2 around any constant switches a pixel at most once.
    """

    rate: float = 0.4
    on: float = 0.6
    off: float = 0.4

    def __post_init__(self) -> None:
        if not (0 < self.rate <= 1 and 0 < self.off < self.on <= 1):
            raise UsageError(
                f"hysteresis: expected 0 < off < on <= 1 and 0 < rate <= 1, "
                f"received off {self.off}, on {self.on}, rate {self.rate}"
            )

    @property
    def delay_frames(self) -> int:
        """Frames until a full change (0 to 1 or back) is shown, the changed frame included: the price of steadiness."""
        if self.rate == 1:
            return 1
        remains = math.log(1 - self.rate)
        on = math.log(1 - self.on) / remains if self.on < 1 else math.inf
        off = math.log(self.off) / remains
        if math.isinf(on):
            raise UsageError("hysteresis: smoothing never reaches on = 1; choose on below 1")
        return max(1, math.ceil(on - 1e-9), math.floor(off + 1e-9) + 1)


class Steady:
    """Smooths the foreground's probability of frame after frame. The first frame after a reset counts in full."""

    def __init__(self, hysteresis: Hysteresis | None = None) -> None:
        self.hysteresis = hysteresis or Hysteresis()
        self.smooth: NDArray[np.float32] | None = None
        self._on: NDArray[np.bool_] | None = None

    def __call__(self, share: NDArray[np.float32]) -> NDArray[np.uint8]:
        """(h, w) probability of the foreground -> (h, w) mask of 0 and 1."""
        rule = self.hysteresis
        if self.smooth is None or self._on is None or self.smooth.shape != share.shape:
            self.smooth = np.array(share, np.float32)
            self._on = self.smooth >= (rule.on + rule.off) / 2
        else:
            self.smooth += np.float32(rule.rate) * (share - self.smooth)
            self._on = np.where(self._on, self.smooth >= rule.off, self.smooth >= rule.on)
        return np.asarray(self._on, np.uint8)

    def reset(self) -> None:
        """Forget everything."""
        self.smooth = self._on = None


class SceneCut:
    """Notices that a frame shows something else than the one before: the correlation of both as 32x32 greys, where
    both are lit (an endoscope's black surround is the same in every scene). Jumps of the camera count as cuts."""

    def __init__(self, least_correlation: float = 0.25) -> None:
        self.least_correlation = least_correlation
        self._previous: NDArray[np.float32] | None = None

    def __call__(self, frame: NDArray[np.uint8]) -> bool:
        """Whether the scene was cut in front of this (H, W, 3) RGB frame; False for the first."""
        small = cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA)
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.float32)
        previous, self._previous = self._previous, grey
        if previous is None:
            return False
        lit = (previous > FIELD_GREY) & (grey > FIELD_GREY)
        if lit.sum() < LEAST_LIT:
            return bool(((previous > FIELD_GREY) | (grey > FIELD_GREY)).sum() >= 2 * LEAST_LIT)
        return correlation(previous[lit], grey[lit]) < self.least_correlation


def correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Pearson's, -1..1. Two plain greys (less than one level of spread) are alike: 1."""
    a, b = one - one.mean(), other - other.mean()
    if a.std() < 1 and b.std() < 1:
        return 1.0
    return float((a * b).mean()) / (max(float(a.std()), 1.0) * max(float(b.std()), 1.0))
