"""Capture, segment, draw, show: one loop, timed stage by stage."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.segment.camera.capture import Capture
from edge_unet.segment.camera.sinks import open_sink
from edge_unet.segment.camera.sources import SourceEndedError, SourceUri, open_source
from edge_unet.segment.overlay import draw_legend, draw_lines, draw_mask
from edge_unet.segment.segmenter import Segmentation, Segmenter

STAGES = ("wait", "preprocess", "infer", "postprocess", "draw", "sink")
STALL_S = 2.0
RECENT = 120


@dataclass
class CameraStats:
    """What happened: counts, and the last frames' nanoseconds per stage."""

    frames: int = 0
    dropped: int = 0
    stalls: int = 0
    reopened: int = 0
    seconds: float = 0.0
    stage_ns: dict[str, deque[int]] = field(default_factory=lambda: {s: deque(maxlen=100_000) for s in STAGES})

    def percentile_ms(self, stage: str, percent: float) -> float:
        """Percentile of a stage in milliseconds; 0 before the first frame."""
        samples = self.stage_ns[stage]
        return float(np.percentile(np.asarray(samples), percent)) / 1e6 if samples else 0.0

    def row(self) -> dict[str, Any]:
        """For --json."""
        stages = {s: {"p50_ms": self.percentile_ms(s, 50), "p90_ms": self.percentile_ms(s, 90)} for s in STAGES}
        return {
            "frames": self.frames,
            "dropped": self.dropped,
            "stalls": self.stalls,
            "reopened": self.reopened,
            "seconds": self.seconds,
            "fps": self.frames / self.seconds if self.seconds else None,
            "stages": stages,
        }


def run_camera(
    bundle: Path,
    source: str,
    sink: str,
    *,
    frames: int | None = None,
    alpha: float = 0.45,
    threads: int = 1,
    stall_s: float = STALL_S,
    say: Callable[[str], None] = print,
) -> CameraStats:
    """Segment a source until it ends, `frames` were shown, the user stops, or ctrl-C. The sink is always finished.

    Raises UsageError for a source or sink that does not open, before the model is loaded.
    """
    uri = SourceUri.parse(source)
    stats = CameraStats()
    capture = Capture(lambda: open_source(uri))
    out = open_sink(sink, capture.fps)
    started = time.monotonic()
    try:
        with Segmenter.load(bundle, threads=threads) as segmenter, capture:
            say(f"{source}: {'live, newest frame wins' if capture.live else 'file, every frame'}; ctrl-C stops")
            started = time.monotonic()
            while frames is None or stats.frames < frames:
                before = time.perf_counter_ns()
                try:
                    frame = capture.take(stall_s)
                except SourceEndedError:
                    break
                if frame is None:
                    stats.stalls += 1
                    say(f"no frame for {stall_s:g} s; waiting")
                    continue
                stats.stage_ns["wait"].append(time.perf_counter_ns() - before)
                if not _one(frame, segmenter, out, stats, alpha):
                    break
    except KeyboardInterrupt:
        say("stopped")
    finally:
        out.close()
        stats.dropped, stats.reopened = capture.dropped, capture.reopened
        stats.seconds = time.monotonic() - started
    say(
        f"{stats.frames} frames in {stats.seconds:.1f} s, {stats.dropped} dropped, {stats.stalls} stalls; "
        + ", ".join(f"{s} p90 {stats.percentile_ms(s, 90):.1f} ms" for s in STAGES)
    )
    return stats


def _one(frame: NDArray[np.uint8], segmenter: Segmenter, sink: Any, stats: CameraStats, alpha: float) -> bool:
    """Segment, draw and show one RGB frame; False where the user stops."""
    result = segmenter(in_order(frame, segmenter.preprocess.color_order))
    after = time.perf_counter_ns()
    picture = draw_mask(frame, result.mask, segmenter.classes, alpha)
    draw_legend(draw_lines(picture, _lines(result, stats, segmenter)), segmenter.classes)
    drawn = time.perf_counter_ns()
    go_on: bool = sink.show(picture)
    shown = time.perf_counter_ns()
    timing = result.timing
    for stage, value in zip(
        STAGES[1:],
        (timing.preprocess_ns, timing.infer_ns, timing.postprocess_ns, drawn - after, shown - drawn),
        strict=True,
    ):
        stats.stage_ns[stage].append(value)
    stats.frames += 1
    return go_on


def in_order(frame: NDArray[np.uint8], color_order: str) -> NDArray[np.uint8]:
    """(H, W, 3) RGB -> the colour order a network wants."""
    if color_order == "RGB":
        return frame
    if color_order == "BGR":
        return np.ascontiguousarray(frame[..., ::-1])
    weights = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as OpenCV's
    return np.asarray(np.rint(frame @ weights), np.uint8)[..., None]  # (H, W, 1)


def _lines(result: Segmentation, stats: CameraStats, segmenter: Segmenter) -> list[str]:
    """The text on the picture. FPS counts whole rounds of the loop over the last frames."""
    recent = [list(stats.stage_ns[s])[-RECENT:] for s in STAGES]
    rounds = [sum(values) for values in zip(*recent, strict=False)]
    fps = f"{1e9 * len(rounds) / sum(rounds):.0f} FPS" if rounds and sum(rounds) else "-- FPS"
    name = segmenter.bundle.manifest.name
    artifact = segmenter.bundle.manifest.artifact
    return [
        f"{name}  {artifact.target} {artifact.precision.value}",
        f"{result.timing.infer_ns / 1e6:.1f} ms model  {result.timing.total_ns / 1e6:.1f} ms in all  {fps}",
    ]
