"""Masks of known lines -> instances, curves, radius and offset, against the truth they were drawn from."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_road import HEIGHT, WIDTH, Curve, arc, calibration, paint, straight
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.segment.lanes.birdseye import BirdsEye
from edge_unet.segment.lanes.curve import LaneCurve, fit_curve, radius_m
from edge_unet.segment.lanes.instances import PaintPoints, lane_instances
from edge_unet.segment.lanes.track import LaneTracker, ego_lane

EYE = BirdsEye(calibration())


def curves(mask: NDArray[np.uint8]) -> list[LaneCurve]:
    found = [fit_curve(points) for points in lane_instances(mask, EYE)]
    assert None not in found
    return [curve for curve in found if curve is not None]


def points(x: Curve, near: float = 6, far: float = 30, count: int = 80) -> PaintPoints:
    y = np.linspace(near, far, count)
    return PaintPoints(np.column_stack([x(y), y]), np.ones(count))


def test_every_line_is_one_instance_from_left_to_right() -> None:
    bases = [-5.4, -1.8, 1.9, 5.5]
    instances = lane_instances(paint([straight(b) for b in bases]), EYE)
    assert len(instances) == 4
    for base, instance in zip(bases, instances, strict=True):
        assert np.abs(instance.ground[:, 0] - base).max() < 0.06, "no point further than the paint's half width"


def test_a_dashed_line_is_one_instance_over_its_gaps() -> None:
    mask = paint([straight(-1.8), straight(1.8)], dashes={0: (3.66, 14.63)})
    dashed, whole = lane_instances(mask, EYE)
    assert dashed.ground[:, 1].max() - dashed.ground[:, 1].min() > 14.6
    assert np.diff(np.sort(dashed.ground[:, 1])).max() > 8, "there are gaps"
    assert len(whole.ground) > 2 * len(dashed.ground)


def test_a_dashed_bend_is_followed() -> None:
    found = curves(paint([arc(150, -1.8), arc(150, 1.8)], dashes={0: (3.0, 12.0), 1: (3.0, 12.0)}))
    assert [round(c.at(10), 1) for c in found] == [-1.5, 2.1]


def test_wide_and_short_paint_is_no_line() -> None:
    mask = paint([straight(-1.8), straight(1.8)])
    mask[380:420, 430:520] = 1  # a car
    mask[470:476, 300:306] = 1  # a fleck
    mask[255:275] = 1  # beyond the view
    assert len(lane_instances(mask, EYE)) == 2
    assert lane_instances(np.zeros((HEIGHT, WIDTH), np.uint8), EYE) == []


def test_a_mask_of_another_size_is_refused() -> None:
    with pytest.raises(UsageError, match="frames are 10x10"):
        lane_instances(np.zeros((10, 10), np.uint8), EYE)


@settings(max_examples=60, deadline=None)
@given(st.floats(-0.004, 0.004), st.floats(-0.1, 0.1), st.floats(-3, 3))
def test_exact_points_give_the_exact_curve(bend: float, slope: float, base: float) -> None:
    curve = fit_curve(points(lambda y: bend * y * y + slope * y + base))
    assert curve is not None
    assert (curve.bend, curve.slope, curve.base) == pytest.approx((bend, slope, base), abs=1e-8)
    assert (curve.near_m, curve.far_m, curve.paint) == (6, 30, 80)


def test_stray_paint_does_not_pull() -> None:
    stray = points(arc(300, 1.5))
    stray.ground[::6, 0] += 0.5
    curve = fit_curve(stray)
    assert curve is not None
    assert curve.at(6) == pytest.approx(1.5 + 36 / 600, abs=0.01)
    assert radius_m(curve.curvature_per_m(6)) == pytest.approx(300, rel=0.05)


def test_weights_decide_between_points_that_contradict() -> None:
    y = np.tile(np.linspace(6, 30, 40), 2)
    x = np.repeat([1.0, 1.1], 40)
    curve = fit_curve(PaintPoints(np.column_stack([x, y]), np.repeat([9.0, 1.0], 40)))
    assert curve is not None
    assert curve.at(12) == pytest.approx(1.0, abs=0.03)


def test_a_short_line_is_straight_and_says_that_its_bend_is_not_known() -> None:
    curve = fit_curve(points(arc(100, 0), near=6, far=11))
    assert curve is not None
    assert not curve.bend_known
    assert curve.bend == 0
    assert curve.curvature_per_m(8) is None
    assert radius_m(curve.curvature_per_m(8)) is None
    assert fit_curve(points(straight(0), count=3)) is None, "too few points"
    assert fit_curve(points(lambda y: 0.05 * y * y)) is None, "no road bends with a radius of 10 m"


def test_curvature_is_that_of_the_parabola_and_signed() -> None:
    curve = fit_curve(points(arc(200, 0)))
    assert curve is not None
    assert curve.curvature_per_m(0) == pytest.approx(1 / 200, rel=1e-6)
    assert curve.curvature_per_m(20) == pytest.approx(1 / 200 / (1 + 0.1**2) ** 1.5, rel=1e-6)
    left = fit_curve(points(arc(-200, 0)))
    assert left is not None
    assert radius_m(left.curvature_per_m(0)) == pytest.approx(-200)
    assert radius_m(1 / 5000) is None, "straight for such a camera"


@pytest.mark.parametrize("radius", [-120, 120, 250, -400, 600])
def test_radius_and_offset_from_a_drawn_mask(radius: float) -> None:
    """Lane 3.6 m wide, the vehicle 0.25 m right of its middle."""
    near = EYE.calibration.view.near_m
    found = curves(paint([arc(radius, -2.05), arc(radius, 1.55)]))
    tracker = LaneTracker(near, appear=1)
    lane = ego_lane(tracker(found), near)
    assert lane.offset_m == pytest.approx(0.25 - near**2 / (2 * radius), abs=0.02)
    assert lane.width_m == pytest.approx(3.6, abs=0.03)
    measured = radius_m(lane.curvature_per_m)
    assert measured == pytest.approx(radius, rel=0.05)


def test_a_straight_road_has_no_radius() -> None:
    near = EYE.calibration.view.near_m
    lane = ego_lane(LaneTracker(near, appear=1)(curves(paint([straight(-1.8), straight(1.8)]))), near)
    assert lane.offset_m == pytest.approx(0, abs=0.01)
    assert radius_m(lane.curvature_per_m) is None
    assert lane.curvature_per_m == pytest.approx(0, abs=1 / 3000)
