"""Lines that keep their name from frame to frame, smoothed and held over short gaps; and the lane between two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_unet.segment.lanes.curve import LaneCurve

LANE_WIDTHS_M = (2.2, 5.5)
"""Narrowest and widest lane that is believed."""


@dataclass(frozen=True, slots=True)
class TrackedLine:
    """A smoothed line. `number` is never used twice in one run."""

    number: int
    curve: LaneCurve
    seen: int = 1
    missing: int = 0


@dataclass(frozen=True, slots=True)
class EgoLane:
    """The lane that the vehicle is in, at the near end of the view. None: that line, or its bend, is not known."""

    left: TrackedLine | None
    right: TrackedLine | None
    width_m: float | None
    offset_m: float | None
    """Vehicle's middle right (+) or left (-) of the lane's."""
    curvature_per_m: float | None
    """Positive: bends to the right. Mean of the two lines, weighted by their paint."""


class LaneTracker:
    """Matches curves to the lines of the frame before by their distance where the new one was seen, and smooths them.

    Lines come out sorted by where they are at `at_m`. `rate` is the weight of the newest frame. A line is shown after
    `appear` frames and held over `vanish` without it.
    """

    def __init__(
        self, at_m: float, *, rate: float = 0.35, gate_m: float = 0.7, appear: int = 2, vanish: int = 8
    ) -> None:
        self.at_m, self.rate, self.gate_m, self.appear, self.vanish = at_m, rate, gate_m, appear, vanish
        self._lines: list[TrackedLine] = []
        self._count = 0

    def __call__(self, curves: Sequence[LaneCurve]) -> list[TrackedLine]:
        """One frame's curves in, the lines to believe out, left to right."""
        pairs = sorted(
            (_apart(line.curve, curve), i, j) for i, line in enumerate(self._lines) for j, curve in enumerate(curves)
        )
        match: dict[int, int] = {}
        for away, i, j in pairs:
            if away <= self.gate_m and i not in match and j not in match.values():
                match[i] = j
        kept = [self._next(line, curves[match[i]] if i in match else None) for i, line in enumerate(self._lines)]
        for j, curve in enumerate(curves):
            if j not in match.values():
                self._count += 1
                kept.append(TrackedLine(self._count, curve))
        self._lines = [t for t in kept if t.missing <= (self.vanish if t.seen >= self.appear else 0)]
        shown = [line for line in self._lines if line.seen >= self.appear]
        return sorted(shown, key=lambda line: line.curve.at(self.at_m))

    def reset(self) -> None:
        """Forget everything, at a scene cut."""
        self._lines = []

    def _next(self, line: TrackedLine, curve: LaneCurve | None) -> TrackedLine:
        if curve is None:
            return replace(line, missing=line.missing + 1)
        return replace(line, curve=self._mixed(line.curve, curve), seen=line.seen + 1, missing=0)

    def _mixed(self, old: LaneCurve, new: LaneCurve) -> LaneCurve:
        """The old curve moved towards the new one. A curve of unknown bend leaves a known bend as it is: it only
        moves the line at its own middle."""
        rate = self.rate
        if old.bend_known and not new.bend_known:
            middle = (new.near_m + new.far_m) / 2
            shift = rate * (new.at(middle) - old.at(middle))
            return replace(old, base=old.base + shift, near_m=new.near_m, paint=new.paint)
        if new.bend_known and not old.bend_known:
            return new
        mixed = {
            name: getattr(old, name) + rate * (getattr(new, name) - getattr(old, name))
            for name in ("bend", "slope", "base")
        }
        return replace(new, **mixed)


def _apart(old: LaneCurve, new: LaneCurve) -> float:
    """Mean distance in metres, at both ends and the middle of the new curve."""
    places = (new.near_m, (new.near_m + new.far_m) / 2, new.far_m)
    return sum(abs(old.at(y) - new.at(y)) for y in places) / len(places)


def reaches(curve: LaneCurve, at_m: float) -> bool:
    """Whether a curve says something about `at_m`: it is not drawn out there by more than half its own length."""
    return curve.near_m - at_m <= (curve.far_m - curve.near_m) / 2


def ego_lane(lines: Sequence[TrackedLine], at_m: float) -> EgoLane:
    """The lane between the nearest line to the left of the vehicle's middle and the nearest to its right, at `at_m`.
    Lines that do not reach so near are passed over."""
    near = [line for line in lines if reaches(line.curve, at_m)]
    left = max((t for t in near if t.curve.at(at_m) <= 0), key=lambda t: t.curve.at(at_m), default=None)
    right = min((t for t in near if t.curve.at(at_m) > 0), key=lambda t: t.curve.at(at_m), default=None)
    bends = [
        (k, t.curve.paint) for t in (left, right) if t is not None and (k := t.curve.curvature_per_m(at_m)) is not None
    ]
    curvature = sum(k * paint for k, paint in bends) / sum(paint for _, paint in bends) if bends else None
    if left is None or right is None:
        return EgoLane(left, right, None, None, curvature)
    x_left, x_right = left.curve.at(at_m), right.curve.at(at_m)
    width = x_right - x_left
    if not LANE_WIDTHS_M[0] <= width <= LANE_WIDTHS_M[1]:
        return EgoLane(left, right, None, None, curvature)
    return EgoLane(left, right, width, -(x_left + x_right) / 2, curvature)
