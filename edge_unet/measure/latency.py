"""The timing protocol: batch 1, warm-up, subjects interleaved in bursts, every sample kept.

Interleaved, because a machine's clock, its neighbours and its temperature drift: subjects that take turns within
a tenth of a second see the same weather. In bursts, because a subject that always comes after another one finds its
weights pushed out of the caches, which inflates small networks by tens of per cent: the first run of a burst refills
them and is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.core.protocols import Session
from edge_unet.core.report import STAGES, Schedule, StageTime, percentile_ns
from edge_unet.core.spec import ClassSpec, PreprocessSpec, feed_from_pixels, mask_from_output
from edge_unet.devices.runner.job import Schedule as RunnerSchedule
from edge_unet.devices.runner.latency import Timed, measure
from edge_unet.frames import resize_frame, restore_mask
from edge_unet.frames.overlay import draw_overlay
from edge_unet.measure.masks import feeds_of

Clock = Callable[[], int]

__all__ = ["Samples", "Timed", "Timing", "end_to_end", "measure_latency", "model_only"]


@dataclass
class Samples:
    """All counted runs of one subject, in order."""

    label: str
    stages: tuple[str, ...]
    warmup_runs: int = 0
    total_ns: list[int] = field(default_factory=list)
    stage_samples_ns: list[tuple[int, ...]] = field(default_factory=list)
    spent_ns: int = 0
    """Counted and discarded runs together."""

    def stage_ns(self) -> dict[str, StageTime] | None:
        """p50 and p90 of each stage; None for a subject without stages."""
        if not self.stages:
            return None
        columns = list(zip(*self.stage_samples_ns, strict=True))
        return {
            name: StageTime(p50_ns=percentile_ns(column, 50), p90_ns=percentile_ns(column, 90))
            for name, column in zip(self.stages, columns, strict=True)
        }


@dataclass(frozen=True)
class Timing:
    """Samples in the order of the subjects, and the order in which the bursts ran."""

    samples: tuple[Samples, ...]
    burst_order: tuple[str, ...]


def measure_latency(
    subjects: Sequence[Timed],
    schedule: Schedule,
    *,
    clock: Clock = time.perf_counter_ns,
    progress: Callable[[str, float], None] | None = None,
) -> Timing:
    """Time all subjects under one schedule.

    Each is warmed up, then all take turns: a burst is `discarded` runs that do not count and up to `burst` that do.
    A subject leaves the round at `runs` counted runs or after `limit_ns` of its own time. `progress` hears the label
    and the share done (0..1) after every burst. Raises UsageError without subjects or where two share a label.
    """
    labels = [subject.label for subject in subjects]
    if not labels or len(set(labels)) != len(labels):
        raise UsageError(f"latency: expected subjects with different labels, received {labels or 'none'}")
    times, order = measure(subjects, RunnerSchedule(**schedule.model_dump()), progress or _unheard, clock)
    samples = [
        Samples(
            subject.label, subject.stages, found.warmup_runs, found.total_ns, found.stage_samples_ns, found.spent_ns
        )
        for subject, found in zip(subjects, times, strict=True)
    ]
    return Timing(tuple(samples), tuple(order))


def _unheard(label: str, share: float) -> None:
    """Progress that nobody asked for."""


def model_only(label: str, session: Session, frame: NDArray[np.uint8], preprocess: PreprocessSpec) -> Timed:
    """Only `session.infer`, on a (h, w, C) u8 frame at the input's size that was prepared beforehand."""
    feeds = feeds_of(session, frame, preprocess)

    def run() -> tuple[int, ...]:
        session.infer(feeds)
        return ()

    return Timed(label, run)


def end_to_end(
    label: str,
    session: Session,
    frame: NDArray[np.uint8],
    preprocess: PreprocessSpec,
    classes: ClassSpec,
    *,
    clock: Clock = time.perf_counter_ns,
) -> Timed:
    """From a decoded (H, W, C) u8 camera frame to a picture: resize and feed, infer, logits to a mask of the frame's
    size, overlay. Reading the camera and showing the picture belong to the app and are not in it."""
    source, sink = session.artifact.inputs[0], session.artifact.outputs[0]
    height, width = frame.shape[:2]

    def run() -> tuple[int, ...]:
        begin = clock()
        feeds = {source.name: feed_from_pixels(resize_frame(frame, preprocess)[None], source, preprocess)}
        ready = clock()
        outputs = session.infer(feeds)
        done = clock()
        ids = mask_from_output(outputs[sink.name], sink)[0]  # (h, w)
        mask = restore_mask(ids, height, width, preprocess)  # (H, W)
        masked = clock()
        draw_overlay(frame, mask, classes, preprocess.color_order)
        return ready - begin, done - ready, masked - done, clock() - masked

    return Timed(label, run, STAGES)
