"""Dice against latency of networks that were trained alike, as a picture for the README.

Latency: p50 of the fastest mode in a peers run, on a logarithmic axis. Dice: float weights of that many epochs, plain
threshold. A network without both is not in it. The picture is plain SVG that reads on light and dark ground.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from peers.table import PEER, best

from edge_unet.core.report import BenchReport
from edge_unet.measure.report.charts import Axis, line_path, padded_axis, padded_log_axis, pareto

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 62, 20, 22, 52
OURS, THEIRS, GROUND = "#1a9850", "#888888", "#777777"
LINE_PX, LETTER_PX = 15, 7.4
"""Height of a label, and its width for each letter at most."""
RADIUS, GAP = 5, 6
Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""


@dataclass(frozen=True)
class Point:
    """One network."""

    name: str
    latency_ms: float
    dice: float
    ours: bool


def points(peers: BenchReport, alike: BenchReport, data: str) -> list[Point]:
    """Networks that were both timed and trained, fastest first."""
    timed = [m for m in peers.measurements if m.scope == "model"]
    found = []
    for row in alike.evaluated:
        if row.subject is None or row.subject.precision.value != "fp32" or not (row.data or "").startswith(data):
            continue
        name = row.subject.bundle
        if any(m.bundle == name for m in timed):
            fastest = best(timed, name)
            found.append(Point(name, fastest.p50_ns / 1e6, row.dice, not fastest.target.startswith(PEER)))
    return sorted(found, key=lambda p: p.latency_ms)


def front_svg(shown: Sequence[Point], title: str) -> str:
    """The picture. Raises ValueError without points."""
    if not shown:
        raise ValueError("front: no network was both timed and trained alike")
    x_axis = padded_log_axis([p.latency_ms for p in shown])
    y_axis = padded_axis([p.dice for p in shown], 0.1)
    places = [_place(x_axis, y_axis, p.latency_ms, p.dice) for p in shown]
    on_front = pareto([(p.latency_ms, p.dice) for p in shown])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" '
        f'font-size="12" role="img"><title>{escape(title)}</title>',
        *_grid(x_axis, y_axis),
        _front(x_axis, y_axis, [shown[i] for i in on_front]),
        *_dots(shown, places),
        "</svg>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _place(x_axis: Axis, y_axis: Axis, x: float, y: float) -> tuple[float, float]:
    across, up = x_axis.percent(x) / 100, y_axis.percent(y) / 100
    return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)


def _grid(x_axis: Axis, y_axis: Axis) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in y_axis.ticks():
        y = bottom - tick.at / 100 * (bottom - TOP)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{right}" stroke="{GROUND}" stroke-opacity=".25"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{GROUND}">{tick.label}</text>')
    for tick in x_axis.ticks():
        x = LEFT + tick.at / 100 * (right - LEFT)
        parts.append(f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="{GROUND}" stroke-opacity=".25"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle" fill="{GROUND}">{tick.label}</text>')
    middle = (LEFT + right) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle" fill="{GROUND}">p50 ms, best mode</text>')
    parts.append(f'<text x="14" y="{TOP - 8}" fill="{GROUND}">Dice</text>')
    return parts


def _front(x_axis: Axis, y_axis: Axis, on_front: Sequence[Point]) -> str:
    path = line_path([(x_axis.percent(p.latency_ms), y_axis.percent(p.dice)) for p in on_front])
    if not path:
        return ""
    wide, high = (WIDTH - LEFT - RIGHT) / 100, (HEIGHT - TOP - BOTTOM) / 100
    return (
        f'<path d="{path}" transform="translate({LEFT} {TOP}) scale({wide} {high})" fill="none" stroke="{OURS}" '
        'stroke-width="1.5" stroke-dasharray="5 4" vector-effect="non-scaling-stroke"/>'
    )


def _dots(shown: Sequence[Point], places: Sequence[tuple[float, float]]) -> list[str]:
    parts: list[str] = []
    taken = [(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS) for x, y in places]
    for point, (x, y) in zip(shown, places, strict=True):
        colour, weight = (OURS, "bold") if point.ours else (THEIRS, "normal")
        box, lines_away = _free_box(x, y, len(point.name) * LETTER_PX, taken)
        taken.append(box)
        left, _, right, bottom = box
        anchor, side = ("start", left) if left > x else ("end", right)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}" fill="{colour}"/>')
        if lines_away:
            level = bottom - LINE_PX / 2
            parts.append(f'<path d="M{x:.1f} {y:.1f}L{side:.1f} {level:.1f}" stroke="{colour}" stroke-opacity=".5"/>')
        parts.append(
            f'<text x="{side:.1f}" y="{bottom - 4:.1f}" text-anchor="{anchor}" fill="{colour}" '
            f'font-weight="{weight}">{escape(point.name)}</text>'
        )
    return parts


def _free_box(x: float, y: float, width: float, taken: Sequence[Box]) -> tuple[Box, int]:
    """Where a label of this width stands beside (x, y), covering nothing, and how many lines away; below the dot and
    to its right first, since the front rises to the right."""
    for away in range(HEIGHT // LINE_PX):
        for sign in (1, -1):
            middle = y + sign * (LINE_PX * (away + 0.75))
            for left in (x + GAP, x - GAP - width):
                box = (left, middle - LINE_PX / 2, left + width, middle + LINE_PX / 2)
                if _inside(box) and not any(_meet(box, other) for other in taken):
                    return box, away
    return (x + GAP, y, x + GAP + width, y + LINE_PX), 0


def _inside(box: Box) -> bool:
    left, top, right, bottom = box
    return left >= LEFT and top >= TOP and right <= WIDTH - RIGHT and bottom <= HEIGHT - BOTTOM


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
