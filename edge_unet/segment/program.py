"""What every app over a source shares: the loop from frame to picture, and one line for a user's mistake."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import EdgeUnetError
from edge_unet.segment.budget import StageTimes
from edge_unet.segment.camera.capture import Capture
from edge_unet.segment.camera.reading import TimedFrame, read_frames
from edge_unet.segment.camera.sinks import open_sink
from edge_unet.segment.camera.sources import SourceUri, open_source

Step = Callable[[TimedFrame], NDArray[np.uint8]]
Say = Callable[[str], None]


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


def require_source(text: str) -> None:
    """Raise UsageError, before a model is loaded, for a source that is not there."""
    SourceUri.parse(text)


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


def run_program(
    run: Callable[[argparse.Namespace, Say], tuple[dict[str, Any], StageTimes]], given: argparse.Namespace
) -> int:
    """Run an app; a user's mistake is one line and its exit code, a bug keeps its traceback.

    Expects `given.threads` and `given.json`: with it the figures go to stdout as one object, all else to stderr.
    """

    def say(text: str) -> None:
        print(text, file=sys.stderr if given.json else sys.stdout, flush=True)

    cv2.setNumThreads(given.threads)  # OpenCV's own threads would compete with the runtime's
    try:
        row, times = run(given, say)
    except EdgeUnetError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for line in times.lines():
        say(line)
    if given.json:
        print(json.dumps(row, allow_nan=False))
    return 0
