"""The lanes app on roads drawn with a known camera: offset, width, radius, departure and points against the truth."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from apps_support import bright_bundle, run_app, write_video
from drawn_road import FOCAL, HEIGHT, HORIZON, WIDTH, Curve, arc, calibration, paint, straight
from numpy.typing import NDArray

from edge_unet.segment.events import read_events

NOTICE = "Research use only, not a driver assistance system"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_bundle(tmp_path_factory.mktemp("bright"), "paint", size=512, level=0.9)


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The calibration of drawn_road, as a file."""
    known = calibration()
    points = "".join(f"[[points]]\nimage = {list(p.image)}\nground = {list(p.ground)}\n" for p in known.points)
    path = tmp_path_factory.mktemp("camera") / "camera.toml"
    path.write_text(f"[image]\nwidth = {WIDTH}\nheight = {HEIGHT}\n{points}[view]\nnear_m = 6.0\nfar_m = 30.0\n")
    return path


def road(curves: list[Curve], dashes: dict[int, tuple[float, float]] | None = None) -> NDArray[np.uint8]:
    """Asphalt, sky, and lines in white paint."""
    frame = np.full((HEIGHT, WIDTH, 3), 80, np.uint8)
    frame[: int(HORIZON)] = (90, 120, 150)
    frame[paint(curves, dashes) > 0] = 250
    return frame


def test_a_bend_is_measured(bundle: Path, camera: Path, tmp_path: Path) -> None:
    """A bend to the right of 200 m; the vehicle 0.3 m left of the middle of a lane of 3.5 m."""
    frame = road([arc(200, -1.45), arc(200, 2.05), arc(200, 5.55)], dashes={0: (3.0, 9.0)})
    source = write_video(tmp_path / "in.mp4", [frame] * 30)
    log, report = tmp_path / "events.jsonl", tmp_path / "still.html"
    ran = run_app(
        "lanes", bundle, "--calibration", camera, "--source", source, "--log", log, "--report", report, "--json"
    )
    assert ran.code == 0, ran.err
    header, *events = read_events(log)
    assert header["notice"] == NOTICE
    assert [e["event"] for e in events] == ["lane", "lane", "ended"]
    lane = events[1]
    assert lane["time_s"] == 1.0
    assert lane["width_m"] == pytest.approx(3.5, abs=0.06)
    assert lane["offset_m"] == pytest.approx(-0.3 - 36 / 400, abs=0.04)
    assert lane["radius_m"] == pytest.approx(200, rel=0.1)
    row = ran.value
    assert (row["frames"], row["departures"]) == (30, 0)
    assert row["frames_with_lane"] >= 28
    assert set(row["latency"]["stages"]) == {"model", "lanes", "draw", "log", "sink"}
    page = report.read_text(encoding="utf-8")
    assert NOTICE in page
    times = [float(second) for second in re.findall(r">time</th><td>([\d.]+) s", page)]
    assert len(times) == 2
    assert times[0] < 0.3 < 1.0 <= times[1]


@pytest.mark.slow
def test_a_departure_is_warned_of_once_on_the_right_side(bundle: Path, camera: Path, tmp_path: Path) -> None:
    """Drifting 1.2 m to the right in two seconds and back: 0.9 m of room becomes -0.3 m and 0.9 m again."""
    drift = np.concatenate([np.linspace(0, 1.2, 50), np.linspace(1.2, 0, 50)])
    frames = [road([straight(-1.8 - d), straight(1.8 - d)]) for d in drift]
    log, out = tmp_path / "events.jsonl", tmp_path / "out.mp4"
    source = write_video(tmp_path / "in.mp4", frames)
    ran = run_app(
        "lanes", bundle, "--calibration", camera, "--source", source, "--log", log, "--sink", f"file://{out}", "--json"
    )
    assert ran.code == 0, ran.err
    events = [e for e in read_events(log) if e["event"].startswith("departure")]
    assert [(e["event"], e["side"]) for e in events] == [("departure", "right"), ("departure_over", "right")]
    begin, end = events
    first = int(np.nonzero(0.9 - drift < 0.2)[0][0])
    assert first + 2 <= begin["frame"] <= first + 8, "3 frames in a row, behind the smoothing"
    assert begin["offset_m"] > 0.6
    assert end["frame"] > 60
    assert ran.value["departures"] == 1
    capture = cv2.VideoCapture(str(out))
    pictures = [capture.read()[1] for _ in range(60)]
    panel = pictures[begin["frame"] + 2][:40, :220].astype(int)
    assert (panel[..., 2] - panel[..., 0]).max() > 100, "red letters"
    quiet = pictures[5][:40, :220].astype(int)
    assert (quiet[..., 2] - quiet[..., 0]).max() < 100, "none before"


def test_the_reports_pictures_are_spread_over_the_run(bundle: Path, camera: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", [road([straight(-1.8), straight(1.8)])] * 36, fps=4)
    report = tmp_path / "still.html"
    ran = run_app("lanes", bundle, "--calibration", camera, "--source", source, "--report", report)
    assert ran.code == 0, ran.err
    times = [float(t) for t in re.findall(r">time</th><td>([\d.]+) s", report.read_text(encoding="utf-8"))]
    assert len(times) == 3
    assert np.diff(times).min() >= 2, times
    assert times[-1] >= 5, "nine seconds"


def test_points_are_scored_against_labels(bundle: Path, camera: Path, tmp_path: Path) -> None:
    """Labels from the drawing itself; the prediction must find all four lanes to a few pixels."""
    folder = tmp_path / "frames"
    folder.mkdir()
    curves = [straight(-5.0), straight(-1.7), straight(1.9), straight(5.2)]
    cv2.imwrite(str(folder / "a.png"), road(curves))
    rows = list(range(300, 440, 10))
    lanes = []
    for curve in curves:
        ahead = FOCAL * 1.3 / (np.asarray(rows) - HORIZON)
        xs = 470 + FOCAL * curve(ahead) / ahead
        lanes.append([round(float(x)) if 0 <= x < WIDTH else -2 for x in xs])
    labels, points = tmp_path / "labels.jsonl", tmp_path / "points.jsonl"
    labels.write_text(json.dumps({"raw_file": "a.png", "lanes": lanes, "h_samples": rows}) + "\n")
    arguments = ["--calibration", camera, "--source", folder, "--points", points, "--rows", "300", "440", "10"]
    ran = run_app("lanes", bundle, *arguments, "--labels", labels, "--json")
    assert ran.code == 0, ran.err
    score = ran.value["tusimple"]
    assert score["accuracy"] > 0.95
    assert (score["false_positives"], score["false_negatives"]) == (0, 0)
    (line,) = points.read_text().splitlines()
    assert json.loads(line)["raw_file"] == "a.png"


def test_an_empty_road_has_no_lane_and_the_figures_say_so(bundle: Path, camera: Path, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    source = write_video(tmp_path / "in.mp4", [road([])] * 5)
    ran = run_app("lanes", bundle, "--calibration", camera, "--source", source, "--log", log, "--json", "--uncertainty")
    assert ran.code == 0, ran.err
    lane = read_events(log)[1]
    assert (lane["offset_m"], lane["width_m"], lane["radius_m"]) == (None, None, None)
    assert ran.value["frames_with_lane"] == 0


@pytest.mark.slow
def test_mistakes_are_one_line_and_an_exit_code(bundle: Path, camera: Path, tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", [road([])] * 2)
    small = write_video(tmp_path / "small.mp4", [np.zeros((48, 64, 3), np.uint8)] * 2)
    cases: list[tuple[list[str | Path], str]] = [
        (["--calibration", tmp_path / "absent.toml", "--source", source], "no calibration"),
        (["--calibration", camera, "--source", small], f"frames are 64x48, the calibration is for {WIDTH}x{HEIGHT}"),
        (["--calibration", camera, "--source", "/absent.mp4"], "no such video"),
        (["--calibration", camera, "--source", source, "--labels", camera], "give both"),
        (["--calibration", camera, "--source", source, "--begin", "0.5"], "begin_m < end_m"),
    ]
    for arguments, message in cases:
        ran = run_app("lanes", bundle, *arguments)
        assert ran.code == 2, (message, ran.err)
        assert message in ran.err
        assert ran.err.count("\n") == 1, ran.err
