"""Lines that keep their number, the lane between two, and a departure warning that does not chatter."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_unet.core.errors import UsageError
from edge_unet.segment.lanes.curve import LaneCurve
from edge_unet.segment.lanes.departure import DepartureRules, DepartureWarning, Margins, margins
from edge_unet.segment.lanes.track import LaneTracker, TrackedLine, ego_lane, reaches

AT = 6.0


def line(x: float, bend: float = 0.0, *, known: bool = True) -> LaneCurve:
    return LaneCurve(bend, 0.0, x - bend * AT * AT, 6.0, 30.0 if known else 11.0, known, 50)


def test_a_line_is_smoothed_shown_after_two_frames_and_held() -> None:
    tracker = LaneTracker(AT, rate=0.5, appear=2, vanish=2)
    assert tracker([line(1.0)]) == []
    (shown,) = tracker([line(1.4)])
    assert shown.curve.at(AT) == pytest.approx(1.2)
    assert [len(tracker([])) for _ in range(3)] == [1, 1, 0]
    tracker([line(1.2)])
    (again,) = tracker([line(1.2)])
    assert again.number == shown.number + 1


def test_a_jump_is_another_line() -> None:
    tracker = LaneTracker(AT, appear=1, gate_m=0.7)
    (first,) = tracker([line(1.0)])
    both = tracker([line(2.0)])
    assert [t.number for t in both] == [first.number, first.number + 1]
    assert [t.curve.at(AT) for t in both] == [1.0, 2.0]


def test_an_unknown_bend_does_not_erase_a_known_one() -> None:
    tracker = LaneTracker(AT, rate=0.5, appear=1)
    tracker([line(1.0, bend=0.002)])
    (after,) = tracker([line(1.2, known=False)])
    assert after.curve.bend == 0.002
    assert after.curve.bend_known


def test_a_reset_forgets_and_numbers_go_on() -> None:
    tracker = LaneTracker(AT, appear=1)
    tracker([line(1.0)])
    tracker.reset()
    assert [t.number for t in tracker([line(1.0)])] == [2]


def lane(*xs: float) -> list[TrackedLine]:
    return [TrackedLine(number, line(x)) for number, x in enumerate(xs)]


def test_the_ego_lane_is_between_the_nearest_lines() -> None:
    found = ego_lane(lane(-5.2, -1.5, 2.1, 5.8), AT)
    assert found.left is not None
    assert found.right is not None
    assert (found.left.number, found.right.number) == (1, 2)
    assert found.width_m == pytest.approx(3.6)
    assert found.offset_m == pytest.approx(-0.3), "the middle is 0.3 m to the right of the vehicle"


def test_what_is_not_known_is_none() -> None:
    only_right = ego_lane(lane(1.8), AT)
    assert only_right.left is None
    assert (only_right.width_m, only_right.offset_m) == (None, None)
    assert only_right.curvature_per_m == 0
    wide = ego_lane(lane(-4.0, 4.0), AT)
    assert (wide.width_m, wide.offset_m) == (None, None), "no lane is 8 m wide"
    assert ego_lane([], AT).curvature_per_m is None


def test_a_stub_far_ahead_is_not_drawn_out_to_the_wheels() -> None:
    stub = TrackedLine(9, LaneCurve(0.0, 0.0, -0.4, 26.0, 30.0, False, 20))
    found = ego_lane([*lane(-1.5, 2.1), stub], AT)
    assert found.left is not None
    assert found.left.number == 0
    assert not reaches(stub.curve, AT)
    assert reaches(LaneCurve(0.0, 0.0, 0.0, 14.0, 30.0, True, 20), AT), "the next dash of a dashed line"


def test_margins_are_from_the_wheels() -> None:
    assert margins(ego_lane(lane(-1.5, 2.1), AT), AT, 1.8) == Margins(pytest.approx(0.6), pytest.approx(1.2))
    assert margins(ego_lane(lane(-0.5), AT), AT, 1.8) == Margins(pytest.approx(-0.4), None)


def test_a_departure_begins_and_ends_after_three_frames() -> None:
    warning = DepartureWarning()
    rooms = [0.5, 0.1, 0.1, 0.1, 0.3, 0.3, 0.3, 0.5, 0.5, 0.5]
    seen = [warning(Margins(room, 1.0)) for room in rooms]
    assert seen == [None] * 3 + ["left"] * 6 + [None]


def test_the_side_stays_while_the_line_passes_under_the_vehicle() -> None:
    """Changing lane to the left: the left line becomes the right line of the next lane."""
    warning = DepartureWarning()
    seen = []
    for step in range(40):
        moved = step * 0.1
        found = ego_lane(lane(-1.8 + moved, 1.8 + moved, -5.4 + moved), AT)
        seen.append(warning(margins(found, AT, 1.8)))
    assert {side for side in seen if side} == {"left"}
    assert [k for k, _ in itertools.groupby(seen)] == [None, "left", None]


def test_unknown_lines_hold_a_warning_for_a_while() -> None:
    warning = DepartureWarning(DepartureRules(frames=1, forget_frames=3))
    nothing = Margins(None, None)
    assert [warning(m) for m in (Margins(None, 0.0), nothing, nothing, nothing)] == ["right", "right", "right", None]


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0.2, 0.4), min_size=5, max_size=60), st.booleans())
def test_between_the_two_limits_nothing_changes(rooms: list[float], warned: bool) -> None:
    warning = DepartureWarning(DepartureRules(frames=1))
    warning(Margins(0.0 if warned else 1.0, 2.0))
    assert {warning(Margins(room, 2.0)) for room in rooms} == {"left" if warned else None}


def test_wrong_rules_are_refused() -> None:
    with pytest.raises(UsageError, match="begin_m < end_m"):
        DepartureRules(begin_m=0.4, end_m=0.4)
