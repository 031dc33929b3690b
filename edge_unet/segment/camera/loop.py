"""Capture, segment, draw, show: one loop, timed stage by stage."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.frames import write_png
from edge_unet.frames.threads import opencv_threads
from edge_unet.segment.camera.capture import Capture
from edge_unet.segment.camera.deadline import Controller
from edge_unet.segment.camera.keys import HELP, View, press
from edge_unet.segment.camera.levels import Level, measure_levels, open_levels
from edge_unet.segment.camera.options import CameraOptions
from edge_unet.segment.camera.outputs import Outputs
from edge_unet.segment.camera.playback import Looped
from edge_unet.segment.camera.sources import Source, SourceEndedError, SourceUri, open_source
from edge_unet.segment.camera.stats import FRAME, CameraStats
from edge_unet.segment.camera.stopping import stop_on_signals
from edge_unet.segment.colours import in_order
from edge_unet.segment.overlay import draw_legend, draw_lines, draw_mask
from edge_unet.segment.segmenter import Segmentation

Say = Callable[[str], None]
POLL_S = 0.2
"""How long a signal may wait while there is no frame."""
TOLD_S = 30.0
"""A stall is told when it begins and then every so many seconds."""


def run_camera(
    bundles: Sequence[Path], source: str, options: CameraOptions | None = None, *, say: Say = print
) -> CameraStats:
    """Segment a source until it ends, `frames` were shown, the user stops, or ctrl-C. What is written is finished.

    Several bundles are the prune levels of one network: `deadline_ms` picks among them, without it the deepest runs.
    Raises UsageError for a source, sink or option that does not fit, before a model is loaded.
    """
    options = options or CameraOptions()
    uri = SourceUri.parse(source)
    options.check(uri)
    if not bundles:
        raise UsageError("camera: expected a bundle; write one with: edge-unet export --out DIR")
    capture = Capture(
        lambda: _open(uri, options.loop), retries=None, frozen_s=options.frozen_s, realtime=options.realtime
    )
    with ExitStack() as stack:
        stopping = stack.enter_context(stop_on_signals())
        stack.enter_context(opencv_threads(options.threads))
        outputs = stack.enter_context(Outputs(options, capture.fps, live=capture.live, say=say))
        levels = stack.enter_context(open_levels(bundles, threads=options.threads))
        run = Run(levels, outputs, options, say)
        say(f"{source}: {'live, newest frame wins' if capture.live else 'file, every frame'}; ctrl-C stops")
        with capture:
            run.go(capture, stopping)
        if stopping.is_set():
            say("stopped")
    say(run.stats.summary())
    return run.stats


def _open(uri: SourceUri, loop: bool) -> Source:
    return Looped(lambda: open_source(uri)) if loop else open_source(uri)


class Run:
    """One run over opened levels and outputs. `stats` is what happened."""

    def __init__(self, levels: Sequence[Level], outputs: Outputs, options: CameraOptions, say: Say) -> None:
        self._levels, self._outputs, self._options, self._say = tuple(levels), outputs, options, say
        self._view = View(alpha=options.alpha)
        self._controller: Controller | None = None
        self._began_ns = time.perf_counter_ns()
        self.stats = CameraStats(tuple(level.name for level in levels), options.deadline_ms)

    def go(self, capture: Capture, stopping: threading.Event) -> None:
        """Until the source ends, enough frames were shown, or somebody stops it."""
        self._began_ns = time.perf_counter_ns()
        wanted = self._options.frames
        try:
            while (wanted is None or self.stats.frames < wanted) and not self._view.quitting:
                before = time.perf_counter_ns()
                frame = self._next(capture, stopping)
                if frame is None:
                    break
                waited = time.perf_counter_ns() - before
                if self._options.deadline_ms is not None and self._controller is None:
                    self._controller = self._measured(frame, self._options.deadline_ms)
                if not self._one(frame, waited, capture.decode_ns):
                    break
        finally:
            self.stats.dropped, self.stats.reopened = capture.dropped, capture.reopened
            self.stats.seconds = (time.perf_counter_ns() - self._began_ns) / 1e9

    def _next(self, capture: Capture, stopping: threading.Event) -> NDArray[np.uint8] | None:
        """The next frame; None at the end and where the run is to stop."""
        began = told = time.monotonic()
        stalled = False
        while not stopping.is_set():
            try:
                frame = capture.take(POLL_S)
            except SourceEndedError:
                return None
            if frame is not None:
                return frame
            now = time.monotonic()
            if now - began < self._options.stall_s:
                continue
            if not stalled or now - told >= TOLD_S:
                self._say(f"no frame for {now - began:.0f} s; waiting")
                told = now
            self.stats.stalls += not stalled
            stalled = True
        return None

    def _measured(self, frame: NDArray[np.uint8], deadline_ms: float) -> Controller:
        """Every level on the first frame, in turns."""
        base = measure_levels(self._levels, lambda level: sum(self._segment(frame, level)[2].values()))
        self.stats.base_ms = tuple(ns / 1e6 for ns in base)
        named = zip(self._levels, self.stats.base_ms, strict=True)
        controller = Controller(deadline_ms * 1e6, base)
        self._say(
            f"deadline {deadline_ms:g} ms; a frame takes "
            + ", ".join(f"{level.name} {ms:.1f} ms" for level, ms in named)
            + f"; beginning with {self._levels[controller.level].name}"
        )
        return controller

    def _level(self) -> int:
        """The level of the next frame: what the keyboard asks for, what the deadline allows, or the deepest."""
        if self._view.level is not None:
            return self._view.level
        return len(self._levels) - 1 if self._controller is None else self._controller.level

    def _segment(
        self, frame: NDArray[np.uint8], level: Level
    ) -> tuple[Segmentation, NDArray[np.uint8], dict[str, int]]:
        """Segment and draw: the result, the picture, nanoseconds of the stages in FRAME."""
        began = time.perf_counter_ns()
        result = level.segmenter(in_order(frame, level.segmenter.preprocess.color_order))
        timing = result.timing
        ordered = max(0, time.perf_counter_ns() - began - timing.total_ns)  # what is left is the colour order
        drawing = time.perf_counter_ns()
        picture = draw_mask(frame, result.mask, result.classes, self._view.alpha)
        draw_legend(draw_lines(picture, self._lines(result, level)), result.classes)
        drawn = time.perf_counter_ns() - drawing
        stages = (timing.preprocess_ns + ordered, timing.infer_ns, timing.postprocess_ns, drawn)
        return result, picture, dict(zip(FRAME, stages, strict=True))

    def _one(self, frame: NDArray[np.uint8], waited_ns: int, decode_ns: int) -> bool:
        """Segment, draw and show one RGB frame; False where the sink wants no more."""
        index = self._level()
        level = self._levels[index]
        result, picture, stages = self._segment(frame, level)
        drawn = time.perf_counter_ns()
        go_on = self._outputs.show(frame, picture)
        shown = time.perf_counter_ns()
        stages |= {"wait": waited_ns, "decode": decode_ns, "sink": shown - drawn}
        total = self.stats.add(stages, index, shown - self._began_ns)
        if self._controller is not None and self._view.level is None:
            self._controller.frame(total)
            self.stats.switches = self._controller.switches
        self._outputs.write(self.stats, result, level.name, stages)
        self._keys(picture)
        return go_on

    def _keys(self, picture: NDArray[np.uint8]) -> None:
        """Do what the window's keys ask for; while frozen, show the same picture."""
        while True:
            self._view = press(self._view, self._outputs.key, len(self._levels))
            if self._view.saving:
                path = Path(time.strftime("edge-unet-%Y%m%d-%H%M%S.png"))
                write_png(path, picture)
                self._say(f"saved {path}")
                self._view = replace(self._view, saving=False)
            if not self._view.frozen or self._view.quitting:
                return
            time.sleep(0.03)
            self._outputs.again(picture)

    def _lines(self, result: Segmentation, level: Level) -> list[str]:
        """The text on the picture."""
        manifest = level.segmenter.bundle.manifest
        fps = self.stats.fps
        timing = result.timing
        lines = [
            f"{manifest.name}  {manifest.artifact.target} {manifest.artifact.precision.value}",
            f"{timing.infer_ns / 1e6:.1f} ms model  {timing.total_ns / 1e6:.1f} ms in all  "
            + (f"{fps:.0f} FPS" if fps else "-- FPS"),
        ]
        if self.stats.deadline_ms is not None and self.stats.frames:
            held = 100 * self.stats.held / self.stats.frames
            lines.append(f"{level.name}  {held:.1f} % within {self.stats.deadline_ms:g} ms")
        return lines + (list(HELP) if self._view.helping else [])
