"""Lanes in a driving video: curves in the image and from above, offset, curvature, departure warning.

    python apps/lanes/lanes.py BUNDLE --calibration apps/lanes/calibration.example.toml --source file://video.mp4 \
        --sink file://out.mp4 --log events.jsonl --report still.html [--uncertainty] [--ensemble LEVEL_BUNDLE ...]
    python apps/lanes/lanes.py BUNDLE --calibration FILE --source file://frames --points predictions.jsonl \
        --labels labels.jsonl

The second form writes TuSimple-style points and scores them. Research use only: this does not drive a car.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.core.files import require_writable, write_text
from edge_unet.segment import annotate
from edge_unet.segment.camera.reading import TimedFrame
from edge_unet.segment.camera.sources import IMAGE_SUFFIXES
from edge_unet.segment.ensemble import Ensemble, Opinion
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
from edge_unet.segment.program import App, AppOptions, Facts, Loop, app_parser, run_program
from edge_unet.segment.steady import SceneCut
from edge_unet.segment.still import Still

MOST_STILLS = 3
"""Of the lane, spread over the run, and as many departures, the first ones."""
LOGGED_EVERY_S = 1.0


class Lanes(App):
    """One run over one source."""

    title = "Lanes"
    notice = "Research use only, not a driver assistance system"
    budget_ms: ClassVar = {"model": 13.0, "lanes": 8.0, "draw": 5.0, "log": 2.0, "sink": 12.0}
    """What a frame may take: 40 ms in all, 25 frames a second."""

    def __init__(self, given: AppOptions, models: Ensemble, log: EventLog | None) -> None:
        super().__init__(given, models, log)
        self.birdseye = BirdsEye(read_calibration(given.calibration))
        self.near_m = self.birdseye.calibration.view.near_m
        self.tracker = LaneTracker(self.near_m)
        self.departure = DepartureWarning(DepartureRules(begin_m=given.begin, end_m=given.end))
        self.cut = SceneCut()
        self.points: list[tusimple.LaneFrame] = []
        self.quiet: list[tuple[float, Still]] = []
        self.alarms: list[tuple[float, Still]] = []
        self.still_every_s = 1.0
        self.counts |= {"frames_with_lane": 0, "departures": 0, "cuts": 0}
        self.names = _image_names(given.source)
        self.next_log_s = 0.0

    @classmethod
    def check(cls, given: AppOptions) -> None:
        """The calibration and what the points need too."""
        super().check(given)
        read_calibration(given.calibration)
        if given.labels and not given.points:
            raise UsageError("--labels scores what --points writes; give both")
        if given.points:
            require_writable(given.points)

    def draw(self, timed: TimedFrame) -> NDArray[np.uint8]:
        """Measure and draw one frame."""
        self.birdseye.require_size(timed.pixels.shape[1], timed.pixels.shape[0])
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
            annotate.draw_panel(picture, [(self.notice, annotate.AMBER)], "bottom left")
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
        if self.given.report:
            self._keep_still(timed, lane, warning if begins else None, picture)
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

    def _keep_still(self, timed: TimedFrame, lane: EgoLane, begun: str | None, picture: NDArray[np.uint8]) -> None:
        """A departure that begins, else the lane from time to time: where there are too many, every other goes and
        the next are further apart, so that they are spread over a run of any length."""
        if begun:
            if len(self.alarms) < MOST_STILLS:
                self.alarms.append((timed.time_s, _still(f"Departure {begun}", timed, lane, picture)))
            return
        due = self.quiet[-1][0] + self.still_every_s if self.quiet else 0.0
        if lane.width_m is None or timed.time_s < due:
            return
        self.quiet.append((timed.time_s, _still("Lane", timed, lane, picture)))
        if len(self.quiet) > MOST_STILLS:
            self.quiet = self.quiet[::2]
            self.still_every_s *= 2

    def _keep_points(self, timed: TimedFrame, curves: list[LaneCurve]) -> None:
        """The frame's own curves, unsmoothed, as TuSimple points."""
        if self.given.points:
            rows = tuple(range(*self.given.rows))
            lanes = tuple(tuple(tusimple.lane_of_curve(c, self.birdseye, rows)) for c in curves)
            name = self.names[timed.index] if self.names else f"{timed.index:06d}"
            self.points.append(tusimple.LaneFrame(name, rows, lanes))

    def facts(self) -> Facts:
        """For the report's head."""
        return (
            ("frames", f"{self.counts['frames']}, {self.counts['frames_with_lane']} with a lane on both sides"),
            ("departures", str(self.counts["departures"])),
        )

    def stills(self) -> tuple[Still, ...]:
        """The lane and the departures as they came."""
        return tuple(still for _, still in sorted([*self.quiet, *self.alarms], key=lambda timed: timed[0]))

    def finish(self, loop: Loop) -> dict[str, Any]:
        """Write and score the points too."""
        row = super().finish(loop)
        if self.given.points:
            write_text(self.given.points, "".join(tusimple.frame_line(frame) + "\n" for frame in self.points))
            if self.given.labels:
                row["tusimple"] = asdict(tusimple.score_files(self.given.points, self.given.labels))
        return row

    def lines(self, row: Mapping[str, Any]) -> Sequence[str]:
        """The score."""
        score = row.get("tusimple")
        return ["TuSimple points: " + ", ".join(f"{k} {v:.4f}" for k, v in score.items())] if score else []


def _still(title: str, timed: TimedFrame, lane: EgoLane, picture: NDArray[np.uint8]) -> Still:
    offset = "not known" if lane.offset_m is None else f"{lane.offset_m:+.2f} m (right is +)"
    facts = (("time", f"{timed.time_s:.2f} s"), ("offset", offset), ("bend", _bend(lane.curvature_per_m)))
    return Still(title, picture.copy(), facts)


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


def parse(arguments: list[str] | None) -> AppOptions:
    """The command line."""
    parser = app_parser(__doc__)
    add = parser.add_argument
    add("--calibration", type=Path, required=True, help="four points of your camera (TOML)")
    add("--paint", type=float, default=0.5, help="probability from which a pixel is paint")
    add("--begin", type=float, default=0.2, help="warn below this room to a line, metres")
    add("--end", type=float, default=0.4, help="stop warning above it")
    add("--points", type=Path, help="write TuSimple-style points (JSONL)")
    add("--rows", type=int, nargs=3, default=(240, 720, 10), help="image rows of the points: first end step")
    add("--labels", type=Path, help="labels to score the points against")
    return parser.parse_args(arguments, AppOptions())


if __name__ == "__main__":
    sys.exit(run_program(Lanes, parse(None)))
