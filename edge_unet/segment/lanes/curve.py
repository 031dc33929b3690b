"""A quadratic through a line's ground points: x(y) = bend y^2 + slope y + base, by robust weighted least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_unet.segment.lanes.instances import PaintPoints

ROUNDS = 5
SHORTEST_BEND_M = 12.0
"""A shorter line is fitted straight: its bend would be noise."""
SHARPEST_PER_M = 1 / 20
STRAIGHT_RADIUS_M = 3000.0


@dataclass(frozen=True, slots=True)
class LaneCurve:
    """One line on the ground, metres. `near_m` .. `far_m` is where its paint was seen."""

    bend: float
    slope: float
    base: float
    near_m: float
    far_m: float
    bend_known: bool
    """False where the line was too short to tell its bend."""
    paint: int
    """Points of paint it was fitted to."""

    def at(self, ahead: float) -> float:
        """Metres to the right at `ahead`."""
        return (self.bend * ahead + self.slope) * ahead + self.base

    def along(self, ahead: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) metres ahead -> (n, 2) ground points."""
        return np.column_stack([(self.bend * ahead + self.slope) * ahead + self.base, ahead])

    def curvature_per_m(self, ahead: float) -> float | None:
        """1 / radius at `ahead`, positive to the right; None where the bend is not known."""
        if not self.bend_known:
            return None
        return float(2 * self.bend / (1 + (2 * self.bend * ahead + self.slope) ** 2) ** 1.5)


def radius_m(curvature_per_m: float | None) -> float | None:
    """Radius in metres, positive for a bend to the right; None for an unknown one and for a straight
    (beyond STRAIGHT_RADIUS_M, which no camera of this kind can measure)."""
    if curvature_per_m is None or abs(curvature_per_m) * STRAIGHT_RADIUS_M < 1:
        return None
    return 1 / curvature_per_m


def fit_curve(points: PaintPoints) -> LaneCurve | None:
    """Fit a line's points; None where no sensible curve goes through them.

    Weighted least squares, repeated with Tukey's biweight so that stray paint does not pull: a point further than
    4.7 robust deviations (at least 2 cm each) counts nothing.
    """
    x, y = points.ground[:, 0], points.ground[:, 1]
    near, far = float(y.min()), float(y.max())
    bends = far - near >= SHORTEST_BEND_M
    unknowns = 3 if bends else 2
    if len(x) < 2 * unknowns:
        return None
    middle = (near + far) / 2  # powers of a centred y: better conditioned
    design = np.vander(y - middle, unknowns)  # (n, unknowns)
    trust = np.ones(len(x))
    found: NDArray[np.float64] = np.zeros(unknowns)
    for _ in range(ROUNDS):
        root = np.sqrt(points.weight * trust)
        if np.count_nonzero(root) < unknowns:
            return None
        found = np.asarray(np.linalg.lstsq(design * root[:, None], x * root, rcond=None)[0], np.float64)
        away = np.abs(x - design @ found)
        scale = max(0.02, 1.4826 * float(np.median(away)))
        trust = np.square(np.maximum(0, 1 - np.square(away / (4.685 * scale))))
    bend, slope, base = (0.0, *found.tolist()) if not bends else found.tolist()
    curve = LaneCurve(
        bend,
        slope - 2 * bend * middle,
        base - slope * middle + bend * middle * middle,
        near,
        far,
        bends,
        len(x),
    )
    return curve if abs(2 * bend) <= SHARPEST_PER_M else None
