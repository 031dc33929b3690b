"""Charts as percentages and paths: the page draws them with HTML boxes and stretched SVG, so that they fill any
width while their text stays readable on a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edge_unet.core.report import percentile_ns

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
BINS = 96


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, in per cent of its length."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic axis."""

    low: float
    high: float
    logarithmic: bool = False

    def percent(self, value: float) -> float:
        """Position of a value, clamped to the axis."""
        low, high = (math.log(self.low), math.log(self.high)) if self.logarithmic else (self.low, self.high)
        at = (math.log(max(value, 1e-12)) if self.logarithmic else value) - low
        return round(min(100.0, max(0.0, 100 * at / (high - low))), 3)

    def ticks(self, unit: str = "", most: int = 5) -> tuple[Tick, ...]:
        """Round values on the axis, at most about `most` of them."""
        values = _decades(self.low, self.high, most) if self.logarithmic else _steps(self.low, self.high, most)
        return tuple(Tick(self.percent(v), f"{v:.6g}{unit}") for v in values)


def zero_axis(largest: float) -> Axis:
    """From 0 to a little more than the largest value: lengths compare as the values do."""
    return Axis(0.0, max(largest * 1.04, 1e-9))


def padded_axis(values: Sequence[float], least: float) -> Axis:
    """Around the values with a tenth of room on both sides, spanning `least` or more."""
    low, high = min(values), max(values)
    room = max((high - low) * 0.1, (least - (high - low)) / 2)
    return Axis(low - room, high + room)


def padded_log_axis(values: Sequence[float]) -> Axis:
    """Around positive values with room on both sides, at least a factor of 2 wide."""
    low, high = min(values), max(values)
    room = max((high / low) ** 0.12, math.sqrt(max(1.0, 2.0 / (high / low))))
    return Axis(low / room, high * room, logarithmic=True)


def spread_axis(rows: Sequence[Sequence[int]]) -> Axis:
    """The common axis of samples over their own median: from the fastest per cent to the slowest twentieth, so that
    a rare outlier does not flatten the body of every row."""
    low, high = 0.97, 1.08
    for samples in rows:
        middle = percentile_ns(samples, 50)
        low = min(low, percentile_ns(samples, 1) / middle)
        high = max(high, percentile_ns(samples, 95) / middle)
    return Axis(max(0.4, low - 0.01), min(3.0, high + 0.02))


def spread_path(samples_ns: Sequence[int], axis: Axis) -> str:
    """SVG path in a 100 x 100 box: how often each ratio to the median occurred. What lies beyond the axis is counted
    at its end."""
    middle = percentile_ns(samples_ns, 50)
    bins = [0.0] * BINS
    for sample in samples_ns:
        bins[min(BINS - 1, int(axis.percent(sample / middle) / 100 * BINS))] += 1
    edges = [bins[0], *bins, bins[-1]]
    smooth = [(edges[i] + 2 * edges[i + 1] + edges[i + 2]) / 4 for i in range(BINS)]
    top = max(smooth)
    points = [f"{(i + 0.5) * 100 / BINS:.2f} {100 - 94 * value / top:.1f}" for i, value in enumerate(smooth)]
    return f"M0 100L{'L'.join(points)}L100 100Z"


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point beats or equals in both: smaller x, larger y; in order of x."""
    order = sorted(range(len(points)), key=lambda index: (points[index][0], -points[index][1]))
    best: list[int] = []
    for index in order:
        if not best or points[index][1] > points[best[-1]][1]:
            best.append(index)
    return best


def line_path(at: Sequence[tuple[float, float]]) -> str:
    """SVG path through percentages, y upwards, in a 100 x 100 box; empty for fewer than two points."""
    return "" if len(at) < 2 else "M" + "L".join(f"{x:.2f} {100 - y:.2f}" for x, y in at)


def _steps(low: float, high: float, most: int) -> list[float]:
    raw = (high - low) / most
    size = 10 ** math.floor(math.log10(raw))
    step = size * next(nice for nice in _NICE if nice * size >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _decades(low: float, high: float, most: int) -> list[float]:
    """1 to 9 of each decade, thinned down to 1 of each where that is too many."""
    for digits in (range(1, 10), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        values = [d * 10.0**e for e in exponents for d in digits if low <= d * 10.0**e <= high]
        if len(values) <= most:
            break
    return values
