"""Frame time and prune level over the time of a camera run, as one SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

import numpy as np
from numpy.typing import NDArray

from edge_unet.measure.report.charts import Axis, zero_axis
from edge_unet.segment.camera.stats import CameraStats

WIDTH, HEIGHT, LEFT, TOP = 960, 420, 64, 40
UPPER, LOWER, GAP = 240, 70, 24
COLUMNS = 420
"""Columns that the frames are gathered into: each shows its fastest to its slowest frame."""
STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#333}.t{font-weight:600}.g{stroke:#ddd}.d{stroke:#c2261c;"
    "stroke-dasharray:6 4}.b{stroke:#2563a8;stroke-width:2}.l{stroke:#2a7f4f;stroke-width:2;fill:none}"
)


def frame_plot(stats: CameraStats) -> str:
    """SVG text. Above, the milliseconds from a frame to its picture, a bar per moment from the fastest to the slowest
    frame, and the deadline; below, the level of each frame."""
    rows = stats.rows.last()
    seconds = rows[:, -1] / 1e9
    frames_ms = stats.stage_ns("frame") / 1e6
    times = Axis(0.0, max(float(seconds[-1]), 1e-9)) if len(rows) else Axis(0.0, 1.0)
    limit = stats.deadline_ms or 0.0
    tallest = max(float(np.percentile(frames_ms, 99.5)) if len(rows) else 0.0, limit * 1.3)
    values = zero_axis(tallest)
    below = TOP + UPPER + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text class="t" x="{LEFT}" y="22">{escape(_title(stats))}</text>',
        *_grid(times, values),
        *_bars(seconds, frames_ms, times, values),
        *_deadline(limit, values),
        *_levels(stats, seconds, rows[:, -2], times, below),
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 8}" text-anchor="middle">seconds</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _title(stats: CameraStats) -> str:
    held = ""
    if stats.deadline_ms is not None and stats.frames:
        held = f", {100 * stats.held / stats.frames:.1f} % within {stats.deadline_ms:g} ms"
    return f"Frame to picture, ms: {stats.frames} frames{held}"


def _x(percent: float) -> float:
    return round(LEFT + percent / 100 * (WIDTH - LEFT - 16), 1)


def _y(percent: float) -> float:
    return round(TOP + UPPER * (1 - percent / 100), 1)


def _grid(times: Axis, values: Axis) -> Iterator[str]:
    for tick in values.ticks():
        at = _y(tick.at)
        yield f'<path class="g" d="M{LEFT} {at}H{WIDTH - 16}"/>'
        yield f'<text x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{tick.label}</text>'
    for tick in times.ticks(most=8):
        yield f'<text x="{_x(tick.at)}" y="{HEIGHT - 26}" text-anchor="middle">{tick.label}</text>'


def _bars(seconds: NDArray[np.float64], frames_ms: NDArray[np.float64], times: Axis, values: Axis) -> Iterator[str]:
    """One path of vertical strokes."""
    columns = np.minimum((seconds / times.high * COLUMNS).astype(int), COLUMNS - 1)
    strokes = []
    for column in np.unique(columns):
        here = frames_ms[columns == column]
        low, high = _y(values.percent(float(here.min()))), _y(values.percent(float(here.max())))
        strokes.append(f"M{_x(100 * (column + 0.5) / COLUMNS)} {low + 1:g}V{high - 1:g}")
    if strokes:
        yield f'<path class="b" d="{"".join(strokes)}"/>'


def _deadline(limit: float, values: Axis) -> Iterator[str]:
    if limit:
        at = _y(values.percent(limit))
        yield f'<path class="d" d="M{LEFT} {at}H{WIDTH - 16}"/>'
        yield f'<text x="{WIDTH - 18}" y="{at - 5}" text-anchor="end">deadline {limit:g} ms</text>'


def _levels(
    stats: CameraStats, seconds: NDArray[np.float64], levels: NDArray[np.int64], times: Axis, top: int
) -> Iterator[str]:
    """A staircase; nothing where there is one level."""
    count = len(stats.levels)
    if count < 2 or not len(levels):
        return
    heights = [round(top + LOWER * (1 - n / (count - 1)), 1) for n in range(count)]
    for name, at in zip(stats.levels, heights, strict=True):
        yield f'<path class="g" d="M{LEFT} {at}H{WIDTH - 16}"/>'
        yield f'<text x="{LEFT - 8}" y="{at + 4}" text-anchor="end">{escape(name)}</text>'
    turns = [0, *(np.flatnonzero(np.diff(levels)) + 1).tolist()]
    path = f"M{_x(times.percent(float(seconds[0])))} {heights[int(levels[0])]}" + "".join(
        f"H{_x(times.percent(float(seconds[n])))}V{heights[int(levels[n])]}" for n in turns[1:]
    )
    yield f'<path class="l" d="{path}H{_x(100)}"/>'
