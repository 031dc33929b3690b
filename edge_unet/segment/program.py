"""What every app over a source shares: its options, the run from frame to report, one line for a user's mistake."""

from __future__ import annotations

import argparse
import json
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import EdgeUnetError
from edge_unet.core.pipes import BROKEN_PIPE, leave_broken_streams
from edge_unet.frames.threads import opencv_threads
from edge_unet.segment.budget import StageTimes
from edge_unet.segment.camera.capture import Capture
from edge_unet.segment.camera.reading import TimedFrame, read_frames
from edge_unet.segment.camera.sinks import open_sink
from edge_unet.segment.camera.sources import SourceUri, open_source
from edge_unet.segment.ensemble import Ensemble, class_index
from edge_unet.segment.events import EventLog
from edge_unet.segment.still import Still, StillReport, require_report_path, write_report

Step = Callable[[TimedFrame], NDArray[np.uint8]]
Say = Callable[[str], None]
Facts = tuple[tuple[str, str], ...]


class AppOptions(argparse.Namespace):
    """What every app is asked for; an app's own options lie beside these."""

    bundle: Path
    source: str
    sink: str
    frames: int | None
    log: Path | None
    report: Path | None
    uncertainty: bool
    ensemble: list[Path]
    class_name: str | None
    threads: int
    json: bool


def app_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every app, to be read into an AppOptions."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("bundle", type=Path, help="folder written by edge-unet export")
    add("--source", default="0", help="0, v4l2:///dev/video0, file://PATH, rtsp://…, csi://0")
    add("--sink", default="none", help="window, file://PATH or none")
    add("--frames", type=int, help="stop after so many")
    add("--log", type=Path, help="append events to this JSONL file")
    add("--report", type=Path, help="write a still report, .html or .png")
    add("--uncertainty", action="store_true", help="show where the model is unsure")
    add("--ensemble", type=Path, nargs="+", default=[], metavar="BUNDLE", help="other levels of the network")
    add("--class-name", help="the class that is looked for; default: the first that is not background")
    add("--threads", type=int, default=1, help="of the runtime and of OpenCV")
    add("--json", action="store_true", help="print the figures as one JSON object")
    return parser


class App(ABC):
    """One run of an app over one source: `frame` for every frame, then `finish`."""

    title: ClassVar[str]
    notice: ClassVar[str]
    budget_ms: ClassVar[Mapping[str, float]]

    def __init__(self, given: AppOptions, models: Ensemble, log: EventLog | None) -> None:
        self.given, self.models, self.log = given, models, log
        self.value = class_index(models.classes, given.class_name)
        self.times = StageTimes(self.budget_ms)
        self.counts = {"frames": 0}
        self.last_s = 0.0

    @classmethod
    def check(cls, given: AppOptions) -> None:
        """Raise UsageError for options that do not fit, before a model is loaded."""
        SourceUri.parse(given.source)
        if given.report:
            require_report_path(given.report)

    def frame(self, timed: TimedFrame) -> NDArray[np.uint8]:
        """Count one frame and draw it; returns the picture to show."""
        self.counts["frames"] += 1
        self.last_s = timed.time_s
        return self.draw(timed)

    @abstractmethod
    def draw(self, timed: TimedFrame) -> NDArray[np.uint8]:
        """Judge one frame and return its picture, stage by stage of the budget."""

    @abstractmethod
    def facts(self) -> Facts:
        """What the head of the report says beside source, size and model."""

    @abstractmethod
    def stills(self) -> tuple[Still, ...]:
        """The report's pictures."""

    def finish(self, loop: Loop) -> dict[str, Any]:
        """Log the end and write the report; returns the run's figures."""
        if self.log is not None:
            self.log.write("ended", self.counts["frames"], self.last_s, self.counts)
        if self.given.report:
            facts = (
                ("source", Path(self.given.source).name),
                ("frame size", f"{loop.width} x {loop.height}"),
                ("model", self.models.title),
                *self.facts(),
            )
            write_report(self.given.report, StillReport(f"{self.title} run", self.notice, facts, self.stills()))
        row = {"notice": self.notice, "model": self.models.title, **self.counts, "loop": loop.row()}
        return row | {"latency": self.times.row()}

    def lines(self, row: Mapping[str, Any]) -> Sequence[str]:
        """What is said at the end, before the times."""
        return ()


@dataclass(frozen=True, slots=True)
class Loop:
    """How a run over a source went."""

    width: int
    height: int
    frames: int
    dropped: int
    seconds: float

    def row(self) -> dict[str, Any]:
        """For a result."""
        return {
            "size": [self.width, self.height],
            "frames": self.frames,
            "dropped": self.dropped,
            "seconds": round(self.seconds, 3),
            "fps": round(self.frames / self.seconds, 2) if self.seconds else None,
        }


def run_loop(
    source: str, sink: str, step: Step, times: StageTimes, *, frames: int | None = None, say: Say = print
) -> Loop:
    """Every frame of `source` through `step` into `sink`, until it ends, `frames` were shown, the user stops, or
    ctrl-C. The sink is always finished; its time is stage "sink"."""
    uri = SourceUri.parse(source)
    capture = Capture(lambda: open_source(uri))
    out = open_sink(sink, capture.fps)
    started, shown, size = time.monotonic(), 0, (0, 0)
    try:
        with capture:
            for timed in read_frames(capture, frames, say=say):
                size = timed.pixels.shape[1], timed.pixels.shape[0]
                picture = step(timed)
                with times.stage("sink"):
                    go_on = out.show(picture)
                times.end_frame()
                shown += 1
                if not go_on:
                    break
    except KeyboardInterrupt:
        say("stopped")
    finally:
        out.close()
    return Loop(*size, shown, capture.dropped, time.monotonic() - started)


def run_app(app: type[App], given: AppOptions, say: Say) -> dict[str, Any]:
    """Check what was asked for, open models and log, then every frame through the app; returns the run's figures."""
    app.check(given)
    with ExitStack() as stack:
        stack.enter_context(opencv_threads(given.threads))  # its own would compete with the runtime's
        models = stack.enter_context(Ensemble([given.bundle, *given.ensemble], threads=given.threads))
        header = {"notice": app.notice, "source": given.source, "model": models.title}
        log = stack.enter_context(EventLog(given.log, header)) if given.log else None
        run = app(given, models, log)
        say(f"{app.notice}. {models.title} on {given.source}; ctrl-C stops")
        loop = run_loop(given.source, given.sink, run.frame, run.times, frames=given.frames, say=say)
        row = run.finish(loop)
        for line in (*run.lines(row), *run.times.lines()):
            say(line)
    return row


def run_program(app: type[App], given: AppOptions) -> int:
    """Run an app; a user's mistake is one line and its exit code, a bug keeps its traceback.

    With `given.json` the figures go to stdout as one object, all else to stderr. A reader that goes away ends the run
    without a word; what is written to files is finished.
    """

    def say(text: str) -> None:
        print(text, file=sys.stderr if given.json else sys.stdout, flush=True)

    try:
        row = run_app(app, given, say)
        if given.json:
            print(json.dumps(row, allow_nan=False), flush=True)
    except EdgeUnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        if not leave_broken_streams():
            raise
        return BROKEN_PIPE
    return 0
