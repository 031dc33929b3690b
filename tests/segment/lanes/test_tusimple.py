"""TuSimple's point accuracy against cases worked out by hand, and real labels against themselves."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from drawn_road import HORIZON, arc, calibration, pixel

from edge_unet.core.errors import DataError, UsageError
from edge_unet.segment.lanes import tusimple
from edge_unet.segment.lanes.birdseye import BirdsEye
from edge_unet.segment.lanes.curve import LaneCurve
from edge_unet.segment.lanes.tusimple import ABSENT, LaneFrame, PointScore, score_frame

ROWS = list(range(300, 500, 10))  # 20 rows


def upright(x: float) -> list[float]:
    return [x] * len(ROWS)


def test_a_perfect_frame() -> None:
    lanes = [upright(100), upright(400)]
    assert score_frame(lanes, lanes, ROWS) == PointScore(1, 0, 0)


def test_twenty_pixels_are_too_far() -> None:
    assert score_frame([upright(119.9)], [upright(100)], ROWS) == PointScore(1, 0, 0)
    assert score_frame([upright(120)], [upright(100)], ROWS) == PointScore(0, 1, 1)


def test_a_slanted_lane_may_be_further_off() -> None:
    """At 45 degrees the reach is 20 * sqrt(2) = 28.28 pixels."""
    slanted = [100.0 + row - 300 for row in ROWS]
    assert score_frame([[x + 28 for x in slanted]], [slanted], ROWS).accuracy == 1
    assert score_frame([[x + 29 for x in slanted]], [slanted], ROWS).accuracy == 0


def test_a_lane_matches_at_85_percent_of_its_points() -> None:
    label = upright(100)
    for wrong, matched in ((3, True), (4, False)):  # 17 / 20 = 0.85, 16 / 20 = 0.80
        predicted = [500.0] * wrong + label[wrong:]
        score = score_frame([predicted], [label], ROWS)
        assert score == PointScore((20 - wrong) / 20, 0 if matched else 1, 0 if matched else 1)


def test_absent_points_count_when_both_are_absent() -> None:
    label = [float(ABSENT)] * 10 + upright(100)[:10]
    assert score_frame([label], [label], ROWS).accuracy == 1
    assert score_frame([upright(100)], [label], ROWS).accuracy == 0.5
    assert score_frame([[float(ABSENT)] * 20], [upright(10)], ROWS).accuracy == 0, "absent is far from pixel 10"


def test_extra_and_missing_lanes() -> None:
    one, two = upright(100), upright(400)
    assert score_frame([one, two, upright(700)], [one, two], ROWS) == PointScore(1, pytest.approx(1 / 3), 0)
    assert score_frame([one], [one, two], ROWS) == PointScore(0.5, 0, 0.5)
    assert score_frame([], [one, two], ROWS) == PointScore(0, 0, 1)
    assert score_frame([one], [], ROWS) == PointScore(0, 1, 0)


def test_of_five_labels_the_worst_is_forgiven() -> None:
    labels = [upright(100.0 * n) for n in range(1, 6)]
    assert score_frame(labels[:4], labels, ROWS) == PointScore(1, 0, 0)
    assert score_frame(labels[:3], labels, ROWS) == PointScore(0.75, 0, 0.2)


def test_lanes_of_another_length_are_refused() -> None:
    with pytest.raises(DataError, match=r"lanes of \[3\] points; expected one for each of 20 rows"):
        score_frame([[1.0, 2.0, 3.0]], [upright(100)], ROWS)
    with pytest.raises(DataError, match="no frame to score"):
        tusimple.mean_score([])


def write(path: Path, frames: list[LaneFrame]) -> Path:
    path.write_text("".join(tusimple.frame_line(frame) + "\n" for frame in frames))
    return path


def test_files_are_scored_and_a_frame_without_prediction_counts(tmp_path: Path) -> None:
    rows = tuple(ROWS)
    labels = write(tmp_path / "labels.jsonl", [LaneFrame(n, rows, (tuple(upright(100)),)) for n in ("a", "b")])
    predictions = write(tmp_path / "points.jsonl", [LaneFrame("a", rows, (tuple(upright(103)),))])
    assert tusimple.score_files(predictions, labels) == PointScore(0.5, 0, 0.5)
    with pytest.raises(DataError, match="1 frames have no label"):
        tusimple.score_files(labels, predictions)
    predictions.write_text(json.dumps({"raw_file": "a", "lanes": []}))
    with pytest.raises(UsageError, match=r"points.jsonl, line 1: KeyError\('h_samples'\)"):
        tusimple.read_frames(predictions)
    with pytest.raises(UsageError, match="cannot read"):
        tusimple.read_frames(tmp_path / "absent")


def test_a_curve_in_the_image_is_where_the_pinhole_sees_it() -> None:
    eye = BirdsEye(calibration())
    curve = LaneCurve(1 / 600, 0.0, 1.5, 6.0, 30.0, True, 50)
    rows = list(range(int(HORIZON), 540, 10))
    for row, x in zip(rows, tusimple.lane_of_curve(curve, eye, rows), strict=True):
        ahead = 900.0 * 1.3 / (row - HORIZON) if row > HORIZON else 1e9
        if 6 <= ahead <= 30:
            truth, _ = pixel(float(arc(300, 1.5)(np.float64(ahead))), ahead)
            assert x == pytest.approx(truth, abs=0.5)
        else:
            assert x == ABSENT


def test_real_labels_against_themselves_and_moved(shared_data: Path) -> None:
    paths = sorted((shared_data / "tusimple_sample" / "instance_masks").glob("*.png"))
    if not paths:
        pytest.skip("tusimple_sample is not in the data folder")
    rows = list(range(160, 720, 10))
    for path in paths:
        mask = np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.uint8)
        lanes = tusimple.lanes_of_instances(mask, rows)
        assert len(lanes) in (4, 5)
        assert score_frame(lanes, lanes, rows) == PointScore(1, 0, 0)
        moved = [[x + 19 if x >= 0 else x for x in lane] for lane in lanes]
        assert score_frame(moved, lanes, rows) == PointScore(1, 0, 0)
        assert score_frame(lanes[:1], lanes, rows).false_negatives >= 0.6
        far = [[x + 400 if x >= 0 else x for x in lane] for lane in lanes]
        assert score_frame(far, lanes, rows).accuracy < 0.75, "absent points are still right"
