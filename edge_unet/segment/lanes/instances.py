"""A mask of lane paint -> one set of ground points per line.

Every row of the mask gives the middles of its runs of paint, carried to the ground. Slices of the ground from near to
far are then joined to lines, over the gaps of dashed ones, as sliding windows are: each line looks for its next piece
where it is headed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_unet.segment.lanes.birdseye import BirdsEye, Points

HEADING_M, SHORTEST_HEADING_M, KNOWN_HEADING_M = 8.0, 1.5, 4.0
"""A line's heading is that of its last 8 m; one shorter than 1.5 m has none yet, one shorter than 4 m an unsure one."""


@dataclass(frozen=True, slots=True)
class LinkRules:
    """How pieces are joined, in metres on the ground."""

    slice_m: float = 0.5
    """Length of a slice."""
    widest_m: float = 0.9
    """A wider run of paint is no line."""
    joint_m: float = 0.35
    """How far to the side a piece may lie from where its line is headed, at once …"""
    joint_per_metre: float = 0.05
    """… and this much more for each metre of gap (twice that for a line that is short yet: its heading is unsure)."""
    longest_gap_m: float = 13.0
    """Dashed lines have gaps of up to 12 m (United States)."""
    shortest_m: float = 6.0
    """A line must reach over this length (one dash alone is no line) …"""
    fewest_slices: int = 4
    """… and be seen in so many slices."""


@dataclass(frozen=True, slots=True)
class PaintPoints:
    """Middles of runs of paint. `weight` is 1 / (metres per pixel)^2: near points are known better."""

    ground: Points  # (n, 2) x, y in metres
    weight: NDArray[np.float64]  # (n,)

    def take(self, index: NDArray[np.int64]) -> PaintPoints:
        """Some of them."""
        return PaintPoints(self.ground[index], self.weight[index])


@dataclass(frozen=True, slots=True)
class _Piece:
    """Paint within one slice that belongs together: its middle, and which points it is."""

    x: float
    y: float
    members: NDArray[np.int64]


class _Line:
    """A line that grows from near to far. `x`, `y` are the middles of its pieces."""

    def __init__(self, piece: _Piece) -> None:
        self.x: list[float] = []
        self.y: list[float] = []
        self.members: list[NDArray[np.int64]] = []
        self._slope = self._middle_x = self._middle_y = 0.0
        self.add(piece)

    def add(self, piece: _Piece) -> None:
        """Grow, and turn to the heading of the last HEADING_M metres."""
        self.x.append(piece.x)
        self.y.append(piece.y)
        self.members.append(piece.members)
        recent = [(x, y) for x, y in zip(self.x, self.y, strict=True) if y > piece.y - HEADING_M]
        if piece.y - recent[0][1] < SHORTEST_HEADING_M:
            self._slope, self._middle_x, self._middle_y = 0.0, piece.x, piece.y
            return
        self._middle_x = sum(x for x, _ in recent) / len(recent)
        self._middle_y = sum(y for _, y in recent) / len(recent)
        along = sum((y - self._middle_y) ** 2 for _, y in recent)
        self._slope = sum((x - self._middle_x) * (y - self._middle_y) for x, y in recent) / along

    def expected(self, ahead: float) -> float:
        """Where it should be at `ahead`: straight on."""
        return self._middle_x + self._slope * (ahead - self._middle_y)


def lane_instances(mask: NDArray[np.uint8], birdseye: BirdsEye, rules: LinkRules | None = None) -> list[PaintPoints]:
    """(H, W) mask, paint > 0, at the calibration's size -> the points of every line, left to right at their near ends.

    Raises UsageError where the mask has another size.
    """
    rules = rules or LinkRules()
    birdseye.require_size(mask.shape[1], mask.shape[0])
    points = paint_points(mask, birdseye, rules.widest_m)
    lines: list[_Line] = []
    for pieces in _slices(points, rules):
        _extend(lines, pieces, rules)
    kept = [line for line in lines if len(line.x) >= rules.fewest_slices and line.y[-1] - line.y[0] >= rules.shortest_m]
    kept.sort(key=lambda line: line.expected(birdseye.calibration.view.near_m))
    return [points.take(np.concatenate(line.members)) for line in kept]


def paint_points(mask: NDArray[np.uint8], birdseye: BirdsEye, widest_m: float) -> PaintPoints:
    """The middles of the runs of paint in every row of the view that are narrower than `widest_m`."""
    first, last = birdseye.rows
    view = birdseye.calibration.view
    on = np.pad(mask[first:last] > 0, ((0, 0), (1, 1)))
    row, edge = np.nonzero(on[:, 1:] != on[:, :-1])  # where paint begins and ends, in turns
    row, start, end = row[::2], edge[::2], edge[1::2]
    v = row + first
    left = birdseye.ground_of(np.column_stack([start - 0.5, v]).astype(np.float64))
    right = birdseye.ground_of(np.column_stack([end - 0.5, v]).astype(np.float64))
    middle = birdseye.ground_of(np.column_stack([(start + end - 1) / 2, v]).astype(np.float64))
    width = np.abs(right[:, 0] - left[:, 0])
    whole = (start > 0) & (end < mask.shape[1])  # a run that leaves the image has no middle
    inside = (middle[:, 1] >= view.near_m) & (middle[:, 1] <= view.far_m) & (np.abs(middle[:, 0]) <= view.half_width_m)
    keep = np.nonzero(inside & whole & (width <= widest_m))[0]
    metres_per_pixel = width[keep] / (end - start)[keep]
    return PaintPoints(middle[keep], 1 / np.square(metres_per_pixel))


def _slices(points: PaintPoints, rules: LinkRules) -> Iterator[list[_Piece]]:
    """The pieces of paint of one slice of the ground after the other, near to far, empty slices left out."""
    order = np.lexsort((points.ground[:, 0], np.floor(points.ground[:, 1] / rules.slice_m)))
    number = np.floor(points.ground[order, 1] / rules.slice_m)
    for members in np.split(order, np.nonzero(np.diff(number))[0] + 1):
        if not len(members):
            continue
        apart = np.nonzero(np.diff(points.ground[members, 0]) > rules.joint_m)[0] + 1
        yield [_piece(points, part) for part in np.split(members, apart)]


def _piece(points: PaintPoints, members: NDArray[np.int64]) -> _Piece:
    x, y = points.ground[members].mean(axis=0)
    return _Piece(float(x), float(y), members)


def _extend(lines: list[_Line], pieces: list[_Piece], rules: LinkRules) -> None:
    """Give every piece of a slice to the line that is headed for it, closest pairs first; the others begin lines."""
    pairs = []
    for i, line in enumerate(lines):
        for j, piece in enumerate(pieces):
            gap = piece.y - line.y[-1]
            spread = rules.joint_per_metre * (1 if line.y[-1] - line.y[0] >= KNOWN_HEADING_M else 2)
            away = abs(piece.x - line.expected(piece.y)) if gap <= rules.longest_gap_m else np.inf
            if away <= rules.joint_m + spread * gap:
                pairs.append((away, i, j))
    grown: set[int] = set()
    given: set[int] = set()
    for _, i, j in sorted(pairs):
        if i not in grown and j not in given:
            lines[i].add(pieces[j])
            grown.add(i)
            given.add(j)
    lines.extend(_Line(piece) for j, piece in enumerate(pieces) if j not in given)
