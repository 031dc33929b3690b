"""Lanes in a driving video: curves in the image and from above, offset, curvature, departure warning.

    python apps/lanes/lanes.py BUNDLE --calibration apps/lanes/calibration.example.toml --source file://video.mp4 \
        --sink file://out.mp4 --log events.jsonl --report still.html [--uncertainty] [--ensemble LEVEL_BUNDLE ...]
    python apps/lanes/lanes.py BUNDLE --calibration FILE --source file://frames --points predictions.jsonl \
        --labels labels.jsonl

The second form writes TuSimple-style points and scores them. Research use only: this does not drive a car.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.core.files import require_writable, write_text
from edge_unet.segment import annotate
from edge_unet.segment.budget import StageTimes
from edge_unet.segment.camera.reading import TimedFrame
from edge_unet.segment.camera.sources import IMAGE_SUFFIXES
from edge_unet.segment.ensemble import Ensemble, Opinion, class_index
from edge_unet.segment.events import EventLog, thumbnail
from edge_unet.segment.lanes import tusimple
from edge_unet.segment.lanes.birdseye import BirdsEye
from edge_unet.segment.lanes.calibration import read_calibration
from edge_unet.segment.lanes.curve import LaneCurve, fit_curve, radius_m
from edge_unet.segment.lanes.departure import DepartureRules, DepartureWarning, margins
from edge_unet.segment.lanes.draw import birdseye_inset, draw_lanes
from edge_unet.segment.lanes.instances import lane_instances
from edge_unet.segment.lanes.track import EgoLane, LaneTracker, ego_lane
from edge_unet.segment.maps import draw_heat, restore_values
from edge_unet.segment.program import Loop, Say, require_source, run_loop, run_program
from edge_unet.segment.steady import SceneCut
from edge_unet.segment.still import Still, StillReport, require_report_path, write_report

NOTICE = "Research use only, not a driver assistance system"
BUDGET_MS = {"model": 13.0, "lanes": 8.0, "draw": 5.0, "log": 2.0, "sink": 12.0}
"""What a frame may take: 40 ms in all, 25 frames a second."""
MOST_STILLS = 6
LOGGED_EVERY_S = 1.0


class Lanes:
    """One run over one source: `frame` for every frame, then `finish`."""

    def __init__(self, given: argparse.Namespace, models: Ensemble, birdseye: BirdsEye, log: EventLog | None) -> None:
        self.given, self.models, self.birdseye, self.log = given, models, birdseye, log
        self.value = class_index(models.classes, given.class_name)
        self.near_m = birdseye.calibration.view.near_m
        self.tracker = LaneTracker(self.near_m)
        self.departure = DepartureWarning(DepartureRules(begin_m=given.begin, end_m=given.end))
        self.cut = SceneCut()
        self.times = StageTimes(BUDGET_MS)
        self.points: list[tusimple.LaneFrame] = []
        self.stills: list[Still] = []
        self.counts = {"frames": 0, "frames_with_lane": 0, "departures": 0, "cuts": 0}
        self.names = _image_names(given.source)
        self.next_log_s = 0.0
        self.last_s = 0.0

    def frame(self, timed: TimedFrame) -> NDArray[np.uint8]:
        """Measure and draw one frame; returns the picture to show."""
        self.birdseye.require_size(timed.pixels.shape[1], timed.pixels.shape[0])
        self.counts["frames"] += 1
        self.last_s = timed.time_s
        with self.times.stage("model"):
            opinion = self.models(timed.pixels, uncertainty=self.given.uncertainty)
            share = restore_values(opinion.probabilities[self.value], *timed.pixels.shape[:2], self.models.preprocess)
            mask = (share >= self.given.paint).astype(np.uint8)  # (H, W)
        with self.times.stage("lanes"):
            if self.cut(timed.pixels):
                self.counts["cuts"] += 1
                self.tracker.reset()
                self.departure.reset()
            curves = [c for points in lane_instances(mask, self.birdseye) if (c := fit_curve(points)) is not None]
            lines = self.tracker(curves)
            lane = ego_lane(lines, self.near_m)
            before = self.departure.side
            warning = self.departure(margins(lane, self.near_m, self.birdseye.calibration.vehicle_width_m))
        self.counts["frames_with_lane"] += lane.width_m is not None
        self._keep_points(timed, curves)
        with self.times.stage("draw"):
            picture = self._picture(timed.pixels, opinion)
            draw_lanes(picture, self.birdseye, lines, lane, warning)
            inset = birdseye_inset(mask, timed.pixels, self.birdseye, lines, lane, warning, picture.shape[0] * 9 // 20)
            annotate.draw_inset(picture, inset)
            annotate.draw_panel(picture, self._text(lane, warning, opinion))
            annotate.draw_panel(picture, [(NOTICE, annotate.AMBER)], "bottom left")
        with self.times.stage("log"):
            self._events(timed, lane, before, warning, picture)
        return picture

    def _picture(self, pixels: NDArray[np.uint8], opinion: Opinion) -> NDArray[np.uint8]:
        """The frame, under a heat map where one was asked for."""
        unsure = opinion.entropy if opinion.mutual_information is None else opinion.mutual_information
        if unsure is None:
            return pixels.copy()
        values = restore_values(unsure, *pixels.shape[:2], self.models.preprocess)
        return draw_heat(pixels, values, float(np.log2(len(self.models.classes.names))))

    def _text(self, lane: EgoLane, warning: str | None, opinion: Opinion) -> list[tuple[str, annotate.Colour]]:
        """The panel."""
        lines = [(f"DEPARTURE {warning.upper()}", annotate.RED)] if warning else []
        if lane.offset_m is None or lane.width_m is None:
            lines.append(("no lane on both sides", annotate.AMBER))
        else:
            side = "right" if lane.offset_m > 0 else "left"
            lines.append((f"{abs(lane.offset_m):.2f} m {side} of the middle", annotate.WHITE))
            lines.append((f"lane {lane.width_m:.2f} m wide", annotate.WHITE))
        lines.append((_bend(lane.curvature_per_m), annotate.WHITE))
        if opinion.entropy is not None:
            heat = "entropy" if opinion.mutual_information is None else "disagreement"
            lines.append((f"heat: {heat}", annotate.DIM))
        return lines

    def _events(
        self, timed: TimedFrame, lane: EgoLane, before: str | None, warning: str | None, picture: NDArray[np.uint8]
    ) -> None:
        """The beginning and end of a departure, and the lane once a second."""
        begins = warning is not None and before is None
        self.counts["departures"] += begins
        quiet = lane.width_m is not None and timed.time_s >= self.next_log_s and len(self.stills) < MOST_STILLS // 2
        if begins or quiet:
            self._keep_still(timed, lane, warning, picture)
        if self.log is not None:
            if begins:
                data = {"side": warning, **_row(lane), "thumbnail_jpeg": thumbnail(picture)}
                self.log.write("departure", timed.index, timed.time_s, data)
            elif before is not None and warning is None:
                self.log.write("departure_over", timed.index, timed.time_s, {"side": before, **_row(lane)})
            elif timed.time_s >= self.next_log_s:
                self.log.write("lane", timed.index, timed.time_s, _row(lane))
        if timed.time_s >= self.next_log_s:
            self.next_log_s = timed.time_s + LOGGED_EVERY_S

    def _keep_still(self, timed: TimedFrame, lane: EgoLane, warning: str | None, picture: NDArray[np.uint8]) -> None:
        if self.given.report and len(self.stills) < MOST_STILLS:
            offset = "not known" if lane.offset_m is None else f"{lane.offset_m:+.2f} m (right is +)"
            title = f"Departure {warning}" if warning else "Lane"
            facts = (("time", f"{timed.time_s:.2f} s"), ("offset", offset), ("bend", _bend(lane.curvature_per_m)))
            self.stills.append(Still(title, picture.copy(), facts))

    def _keep_points(self, timed: TimedFrame, curves: list[LaneCurve]) -> None:
        """The frame's own curves, unsmoothed, as TuSimple points."""
        if self.given.points:
            rows = tuple(range(*self.given.rows))
            lanes = tuple(tuple(tusimple.lane_of_curve(c, self.birdseye, rows)) for c in curves)
            name = self.names[timed.index] if self.names else f"{timed.index:06d}"
            self.points.append(tusimple.LaneFrame(name, rows, lanes))

    def finish(self, loop: Loop) -> dict[str, Any]:
        """Write points and report; returns the run's figures."""
        row = {"notice": NOTICE, "model": self.models.title, **self.counts, "loop": loop.row()}
        if self.log is not None:
            self.log.write("ended", self.counts["frames"], self.last_s, self.counts)
        if self.given.points:
            write_text(self.given.points, "".join(tusimple.frame_line(frame) + "\n" for frame in self.points))
            if self.given.labels:
                row["tusimple"] = asdict(tusimple.score_files(self.given.points, self.given.labels))
        if self.given.report:
            facts = (
                ("source", Path(self.given.source).name),
                ("frame size", f"{loop.width} x {loop.height}"),
                ("model", self.models.title),
                ("frames", f"{loop.frames}, {self.counts['frames_with_lane']} with a lane on both sides"),
                ("departures", str(self.counts["departures"])),
            )
            write_report(self.given.report, StillReport("Lanes run", NOTICE, facts, tuple(self.stills)))
        return row | {"latency": self.times.row()}


def _row(lane: EgoLane) -> dict[str, float | None]:
    """For the log."""
    values = {"offset_m": lane.offset_m, "width_m": lane.width_m, "radius_m": radius_m(lane.curvature_per_m)}
    return {name: None if value is None else round(value, 3) for name, value in values.items()}


def _bend(curvature_per_m: float | None) -> str:
    """In words."""
    if curvature_per_m is None:
        return "bend not known"
    radius = radius_m(curvature_per_m)
    return "straight" if radius is None else f"bend {'right' if radius > 0 else 'left'}, radius {abs(radius):.0f} m"


def _image_names(source: str) -> list[str] | None:
    """Names of a folder's images, in the order they are read; None for anything else."""
    folder = Path(source.removeprefix("file://"))
    if not folder.is_dir():
        return None
    return [path.name for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder written by edge-unet export")
    parser.add_argument("--calibration", type=Path, required=True, help="four points of your camera (TOML)")
    parser.add_argument("--source", default="0", help="0, v4l2:///dev/video0, file://PATH, rtsp://…, csi://0")
    parser.add_argument("--sink", default="none", help="window, file://PATH or none")
    parser.add_argument("--frames", type=int, help="stop after so many")
    parser.add_argument("--log", type=Path, help="append events to this JSONL file")
    parser.add_argument("--report", type=Path, help="write a still report, .html or .png")
    parser.add_argument("--uncertainty", action="store_true", help="show where the model is unsure")
    parser.add_argument(
        "--ensemble", type=Path, nargs="+", default=[], metavar="BUNDLE", help="more levels of the network"
    )
    parser.add_argument("--class-name", help="class that is paint; default: the first that is not background")
    parser.add_argument("--paint", type=float, default=0.5, help="probability from which a pixel is paint")
    parser.add_argument("--begin", type=float, default=0.2, help="warn below this room to a line, metres")
    parser.add_argument("--end", type=float, default=0.4, help="stop warning above it")
    parser.add_argument("--points", type=Path, help="write TuSimple-style points (JSONL)")
    parser.add_argument(
        "--rows", type=int, nargs=3, default=(240, 720, 10), help="image rows of the points: first end step"
    )
    parser.add_argument("--labels", type=Path, help="labels to score the points against")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    return parser.parse_args(arguments)


def run(given: argparse.Namespace, say: Say) -> tuple[dict[str, Any], StageTimes]:
    """Check what was asked for, then run the loop; returns the run's figures and times."""
    birdseye = BirdsEye(read_calibration(given.calibration))
    require_source(given.source)
    if given.labels and not given.points:
        raise UsageError("--labels scores what --points writes; give both")
    if given.points:
        require_writable(given.points)
    if given.report:
        require_report_path(given.report)
    with ExitStack() as stack:
        models = stack.enter_context(Ensemble([given.bundle, *given.ensemble], threads=given.threads))
        header = {"notice": NOTICE, "source": given.source, "model": models.title}
        log = stack.enter_context(EventLog(given.log, header)) if given.log else None
        app = Lanes(given, models, birdseye, log)
        say(f"{NOTICE}. {models.title} on {given.source}; ctrl-C stops")
        loop = run_loop(given.source, given.sink, app.frame, app.times, frames=given.frames, say=say)
        row = app.finish(loop)
        if "tusimple" in row:
            say("TuSimple points: " + ", ".join(f"{name} {value:.4f}" for name, value in row["tusimple"].items()))
        return row, app.times


if __name__ == "__main__":
    sys.exit(run_program(run, parse(None)))
