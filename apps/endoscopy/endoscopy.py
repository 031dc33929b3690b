"""Polyps in a colonoscopy video: quality check, steady outline, area and place, event log, still report.

    python apps/endoscopy/endoscopy.py BUNDLE --source file://video.mp4 --sink file://out.mp4 \
        --log events.jsonl --report still.html [--uncertainty] [--ensemble LEVEL_BUNDLE ...]

Research use only, not a medical device.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_unet.segment import annotate
from edge_unet.segment.camera.reading import TimedFrame
from edge_unet.segment.cleanup import Cleanup
from edge_unet.segment.ensemble import Ensemble, Opinion
from edge_unet.segment.events import EventLog, thumbnail
from edge_unet.segment.maps import draw_heat, restore_values
from edge_unet.segment.objects import Change, Persistence, Tracked
from edge_unet.segment.program import App, AppOptions, Facts, app_parser, run_program
from edge_unet.segment.quality import FrameQuality, QualityCheck, QualityLimits
from edge_unet.segment.regions import regions_of
from edge_unet.segment.steady import Hysteresis, SceneCut, Steady
from edge_unet.segment.still import Still

HELD_FRAMES = 12
"""So many refused frames in a row, half a second, and what was shown is forgotten."""
MOST_STILLS = 12


@dataclass
class _Best:
    """The largest view of one region so far, for the report."""

    region: Tracked
    time_s: float
    first_s: float
    picture: NDArray[np.uint8]


class Endoscopy(App):
    """One run over one source."""

    title = "Endoscopy"
    notice = "Research use only, not a medical device"
    budget_ms: ClassVar = {
        "quality": 3.0, "model": 16.0, "steady": 2.0, "regions": 3.0, "draw": 5.0, "log": 2.0, "sink": 9.0,
    }  # fmt: skip
    """What a frame may take: 40 ms in all, 25 frames a second."""

    def __init__(self, given: AppOptions, models: Ensemble, log: EventLog | None) -> None:
        super().__init__(given, models, log)
        self.quality = QualityCheck(QualityLimits(sharpness=given.sharpness))
        self.cut = SceneCut()
        self.steady = Steady(Hysteresis(rate=given.rate, on=given.on, off=given.off))
        self.persistence = Persistence(given.appear, given.vanish)
        self.cleanup: Cleanup | None = None
        self.best: dict[int, _Best] = {}
        self.counts |= {"refused": 0, "cuts": 0, "regions": 0}
        self.change = Change((), (), ())
        self.reasons: tuple[str, ...] = ()
        self.held = 0

    def draw(self, timed: TimedFrame) -> NDArray[np.uint8]:
        """Judge and draw one frame."""
        pixels = timed.pixels
        with self.times.stage("quality"):
            quality, cut = self.quality(pixels), self.cut(pixels)
        if cut:
            self._forget(timed, "cut")
            self.counts["cuts"] += 1
        opinion = self._judge(timed) if quality.good else self._hold(timed)
        with self.times.stage("log"):
            self._log_quality(timed, quality)
            for name, tracked in (("appeared", self.change.appeared), ("gone", self.change.gone)):
                for one in tracked:
                    self._event(timed, name, one)
        with self.times.stage("draw"):
            picture = self._draw(pixels, opinion, quality)
            self._keep_best(timed, picture)
        return picture

    def _judge(self, timed: TimedFrame) -> Opinion:
        """A good frame: model, steady mask, regions."""
        self.held = 0
        with self.times.stage("model"):
            opinion = self.models(timed.pixels, uncertainty=self.given.uncertainty)
        height, width = timed.pixels.shape[:2]
        with self.times.stage("steady"):
            mask = self.steady(opinion.probabilities[self.value])
            share = restore_values(mask.astype(np.float32), height, width, self.models.preprocess)
            smooth = (share >= 0.5).astype(np.uint8)  # (H, W)
        with self.times.stage("regions"):
            least = max(1, round(self.given.smallest * height * width))
            self.cleanup = self.cleanup or Cleanup(opening=3, largest_hole_pixels=least)
            self.change = self.persistence(regions_of(self.cleanup(smooth), smallest_pixels=least))
        return opinion

    def _hold(self, timed: TimedFrame) -> None:
        """A refused frame: what was shown stays for a while, nothing new is believed."""
        self.counts["refused"] += 1
        self.held += 1
        self.change = Change(self.change.shown, (), ())
        if self.held == HELD_FRAMES:
            self._forget(timed, "held too long")

    def _forget(self, timed: TimedFrame, why: str) -> None:
        """Start anew: what was there says nothing about what is."""
        gone = self.persistence.reset()
        self.steady.reset()
        self.change = Change((), (), ())
        with self.times.stage("log"):
            if self.log is not None:
                self.log.write("reset", timed.index, timed.time_s, {"why": why, "gone": [t.number for t in gone]})

    def _log_quality(self, timed: TimedFrame, quality: FrameQuality) -> None:
        """One event when frames begin to be refused, one when they are good again."""
        if self.log is not None and bool(quality.reasons) != bool(self.reasons):
            name = "refused" if quality.reasons else "accepted"
            self.log.write(name, timed.index, timed.time_s, {"reasons": list(quality.reasons)})
        self.reasons = quality.reasons

    def _event(self, timed: TimedFrame, name: str, one: Tracked) -> None:
        """A region that appeared or went."""
        self.counts["regions"] += name == "appeared"
        if self.log is not None:
            data: dict[str, Any] = {"region": one.number, **one.region.row(), "frames_seen": one.seen}
            if name == "appeared":
                picture = timed.pixels.copy()
                annotate.draw_path(picture, one.region.outline, annotate.GREEN, closed=True)
                data["thumbnail_jpeg"] = thumbnail(picture)
            self.log.write(name, timed.index, timed.time_s, data)

    def _draw(self, pixels: NDArray[np.uint8], opinion: Opinion | None, quality: FrameQuality) -> NDArray[np.uint8]:
        """The frame, enlarged where it is small, with outlines, a panel and the notice."""
        picture, factor = annotate.enlarged(pixels)
        unsure = self._unsure(opinion)
        if unsure is not None:
            ceiling = float(np.log2(len(self.models.classes.names)))
            height, width = picture.shape[:2]
            picture = draw_heat(picture, restore_values(unsure, height, width, self.models.preprocess), ceiling)
        colours = [annotate.GREEN if quality.good and not one.missing else annotate.DIM for one in self.change.shown]
        for one, colour in zip(self.change.shown, colours, strict=True):
            annotate.draw_path(picture, annotate.moved(one.region.outline, factor), colour, closed=True)
            annotate.draw_cross(picture, (one.region.centroid[0] * factor, one.region.centroid[1] * factor), colour)
        for one, colour in zip(self.change.shown, colours, strict=True):  # labels last: no outline crosses them
            left, top, _, _ = one.region.box
            place = (left * factor, top * factor - 6)
            annotate.draw_label(picture, f"#{one.number}  {one.region.share:.1%}", place, colour)
        annotate.draw_panel(picture, self._text(opinion, quality))
        annotate.draw_panel(picture, [(self.notice, annotate.AMBER)], "bottom left")
        return picture

    def _unsure(self, opinion: Opinion | None) -> NDArray[np.float32] | None:
        """What the heat map shows: disagreement of several heads, else the entropy of one."""
        if opinion is None:
            return None
        return opinion.entropy if opinion.mutual_information is None else opinion.mutual_information

    def _text(self, opinion: Opinion | None, quality: FrameQuality) -> list[tuple[str, annotate.Colour]]:
        """The panel: how many regions, why a frame is refused, what the colours mean."""
        count = len(self.change.shown)
        lines = [(f"{count} region{'' if count == 1 else 's'}", annotate.WHITE)]
        lines += [(f"refused: {reason}", annotate.AMBER) for reason in quality.reasons]
        if opinion is not None and opinion.entropy is not None:
            heat = "entropy" if opinion.mutual_information is None else "disagreement"
            lines.append((f"heat: {heat}", annotate.DIM))
        return lines

    def _keep_best(self, timed: TimedFrame, picture: NDArray[np.uint8]) -> None:
        """Keep the picture in which a region is largest."""
        if not self.given.report:
            return
        for one in self.change.shown:
            known = self.best.get(one.number)
            if one.missing == 0 and (known is None or one.region.area_pixels > known.region.region.area_pixels):
                first = known.first_s if known else timed.time_s
                self.best[one.number] = _Best(one, timed.time_s, first, picture.copy())
        if len(self.best) > 4 * MOST_STILLS:  # a long run must not fill the memory
            self.best = {b.region.number: b for b in self._longest()}

    def _longest(self) -> list[_Best]:
        return sorted(self.best.values(), key=lambda b: -b.region.seen)[:MOST_STILLS]

    def facts(self) -> Facts:
        """For the report's head."""
        return (
            ("frames", f"{self.counts['frames']}, {self.counts['refused']} refused, {self.counts['cuts']} cuts"),
            ("regions", f"{self.counts['regions']} (the {MOST_STILLS} longest seen are shown, each where largest)"),
        )

    def stills(self) -> tuple[Still, ...]:
        """The regions that were seen longest, in the order in which they came."""
        return tuple(map(_still, sorted(self._longest(), key=lambda b: b.first_s)))


def _still(best: _Best) -> Still:
    """A region's page entry."""
    region = best.region.region
    x, y = region.centroid
    facts = (
        ("first seen", f"{best.first_s:.2f} s"),
        ("shown at", f"{best.time_s:.2f} s"),
        ("area", f"{region.area_pixels} pixels, {region.share:.1%} of the frame"),
        ("centroid", f"x {x:.0f}, y {y:.0f}"),
    )
    return Still(f"Region {best.region.number}", best.picture, facts)


def parse(arguments: list[str] | None) -> AppOptions:
    """The command line."""
    parser = app_parser(__doc__)
    add = parser.add_argument
    add("--smallest", type=float, default=0.002, help="smallest region, share of the frame")
    add("--sharpness", type=float, default=QualityLimits().sharpness, help="frames below it are refused")
    add("--rate", type=float, default=0.4, help="weight of the newest frame")
    add("--on", type=float, default=0.6, help="probability at which a pixel switches on")
    add("--off", type=float, default=0.4, help="probability below which it switches off")
    add("--appear", type=int, default=3, help="frames until a region is shown")
    add("--vanish", type=int, default=5, help="frames it is kept without being found")
    return parser.parse_args(arguments, AppOptions())


if __name__ == "__main__":
    sys.exit(run_program(Endoscopy, parse(None)))
