"""Holding a frame deadline: which prune level the next frame gets.

A network with deep supervision gives an answer at every level, so the depth can follow what the machine has to give
(the anytime property). The controller knows no clock and no network: it is told what a whole frame took and says which
level comes next. Down at once, up slowly: a late frame is lost, a frame at a lower level is only a little coarser.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edge_unet.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Tuning:
    """How patient the controller is, in frames."""

    fast: int = 10
    """Frames whose p90 decides on a step down: the second late one of them does it."""
    slow: int = 40
    """Frames whose p95 decides on a step up, and whose late ones are counted."""
    late: int = 3
    """Late ones among the last `slow` frames of a level that it may not reach: 95 % of 40 leave two."""
    margin: float = 0.9
    """Share of the deadline that a deeper level is predicted to keep before it is tried."""
    hold: int = 30
    """Frames at a level before a deeper one is tried."""
    trial: int = 60
    """A step up that is taken back within this many frames has failed: the next trial waits twice as long."""
    hold_most: int = 960


class Controller:
    """Picks the deepest level whose p90 of the whole frame is predicted to fit the deadline.

    `base_ns` holds what a frame takes at each level, shallow to deep, measured at the start. Whatever slows the
    machine down slows all levels, so the ratio of a frame to its level's base predicts the other levels.
    """

    def __init__(self, deadline_ns: float, base_ns: Sequence[float], tuning: Tuning | None = None) -> None:
        if not base_ns or min(base_ns) <= 0 or deadline_ns <= 0:
            raise UsageError(f"deadline {deadline_ns:g} ns over levels of {list(base_ns)} ns: expected positive times")
        self.deadline_ns, self.base_ns = float(deadline_ns), tuple(map(float, base_ns))
        self._tuning = tuning or Tuning()
        self._ratios: deque[float] = deque([1.0] * self._tuning.fast, maxlen=self._tuning.slow)
        self._late: deque[bool] = deque(maxlen=self._tuning.slow)
        self._since = 0
        self._hold = self._tuning.hold
        self._climbed = False
        self.level = self._deepest(1.0, self.deadline_ns * self._tuning.margin)
        self.switches = 0

    def frame(self, total_ns: float) -> int:
        """A frame at `level` took that long; returns the level of the next one."""
        tuning = self._tuning
        self._since += 1
        self._ratios.append(total_ns / self.base_ns[self.level])
        self._late.append(total_ns > self.deadline_ns)
        recent = percentile(list(self._ratios)[-tuning.fast :], 90)
        if self.level and (recent * self.base_ns[self.level] > self.deadline_ns or sum(self._late) >= tuning.late):
            self._down(min(self._deepest(recent, self.deadline_ns), self.level - 1))
        elif self._climbed and self._since >= tuning.trial:
            self._climbed, self._hold = False, tuning.hold
        elif self.level + 1 < len(self.base_ns) and self._since >= self._hold:
            wanted = percentile(self._ratios, 95) * self.base_ns[self.level + 1]
            if wanted <= tuning.margin * self.deadline_ns:
                self._move(self.level + 1)
                self._climbed = True
        return self.level

    def _down(self, level: int) -> None:
        """Step down, and remember where a trial has failed."""
        if self._climbed:
            self._hold = min(2 * self._hold, self._tuning.hold_most)
        self._climbed = False
        self._move(level)

    def _move(self, level: int) -> None:
        self.level = level
        self.switches += 1
        self._since = 0
        self._late.clear()

    def _deepest(self, ratio: float, limit_ns: float) -> int:
        """The deepest level that takes at most `limit_ns` where everything is `ratio` times its base; else 0."""
        return max((n for n, base in enumerate(self.base_ns) if base * ratio <= limit_ns), default=0)


def percentile(values: Iterable[float], percent: float) -> float:
    """Nearest rank: the smallest value that `percent` per cent of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
