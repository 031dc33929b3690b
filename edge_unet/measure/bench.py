"""Bundles -> latency, memory and energy of each, side by side on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.artifact import Census, Scope
from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import UsageError
from edge_unet.core.protocols import Session, Target
from edge_unet.core.report import FULL, STAND_IN, BenchReport, Measurement, NotMeasured, Schedule
from edge_unet.core.spec import Precision
from edge_unet.frames import resize_frame
from edge_unet.measure.energy import measure_energy
from edge_unet.measure.environment import read_environment
from edge_unet.measure.latency import Samples, Timed, Timing, end_to_end, measure_latency, model_only
from edge_unet.measure.memory import peak_rss_bytes

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Candidate:
    """One bundle to time. `bf16` opens a float artifact in bfloat16 arithmetic: a row of its own."""

    bundle: Bundle
    target: Target
    bf16: bool = False

    @property
    def precision(self) -> Precision:
        """The arithmetic that is timed."""
        return Precision.BF16 if self.bf16 else self.bundle.manifest.artifact.precision

    @property
    def label(self) -> str:
        """'kvasir cpu int8': the bundle and what is timed of it."""
        return f"{self.bundle.manifest.name} {self.target.name} {self.precision.value}"


@dataclass(frozen=True)
class _Open:
    """A candidate with its session."""

    candidate: Candidate
    session: Session
    census: Census
    peak_rss_bytes: int | None
    energy_mj: float | None = None
    energy_source: str | None = None


def bench(
    candidates: Sequence[Candidate],
    frame: NDArray[np.uint8],
    *,
    schedule: Schedule = FULL,
    threads: int = 1,
    with_end_to_end: bool = True,
    with_memory: bool = True,
    title: str = "edge_unet bench",
    progress: Progress | None = None,
) -> BenchReport:
    """Time all candidates, interleaved. `frame` is one decoded (H, W, C) u8 camera frame in the bundles' colour order.

    Candidates whose target does not execute here are listed under `not_measured`: an interpreter's latency says
    nothing. Verify and evaluate results, pictures and notes are added by the caller with model_copy(update=...).
    Raises UsageError where two candidates share a label.
    """
    _check_labels([candidate.label for candidate in candidates])
    runnable = [candidate for candidate in candidates if candidate.target.executes_here]
    left_out = tuple(
        NotMeasured(target=c.target.name, precision=c.precision, reason=STAND_IN)
        for c in candidates if not c.target.executes_here
    )  # fmt: skip
    environment = read_environment(threads=threads)
    if not runnable:
        return BenchReport(title=title, environment=environment, not_measured=left_out)
    peaks = [_peak(candidate, threads) if with_memory else None for candidate in runnable]
    measurements: list[Measurement] = []
    with ExitStack() as stack:
        stack.callback(cv2.setNumThreads, cv2.getNumThreads())
        cv2.setNumThreads(threads)  # resizing and drawing get as many threads as the runtimes
        opened = [
            _start(stack, candidate, peak, frame, threads) for candidate, peak in zip(runnable, peaks, strict=True)
        ]
        timing = measure_latency([_model_subject(o, frame) for o in opened], schedule, progress=progress)
        measurements += _measurements(opened, timing, "model")
        if with_end_to_end:
            whole = measure_latency([_whole_subject(o, frame) for o in opened], schedule, progress=progress)
            measurements += _measurements(opened, whole, "end_to_end")
    return BenchReport(
        title=title,
        environment=environment,
        schedule=schedule,
        burst_order=timing.burst_order,
        measurements=tuple(measurements),
        not_measured=left_out,
    )


def _check_labels(labels: Sequence[str]) -> None:
    """Rows are told apart by their labels."""
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UsageError(
            f"bench: two bundles have the same name, target and precision: {', '.join(twice)}; "
            "give each one once, or other names to other models (name in the recipe)"
        )


def _peak(candidate: Candidate, threads: int) -> int | None:
    bundle = candidate.bundle
    return peak_rss_bytes(
        candidate.target.open, bundle.folder, bundle.manifest.artifact, threads=threads, bf16=candidate.bf16
    )


def _start(stack: ExitStack, candidate: Candidate, peak: int | None, frame: NDArray[np.uint8], threads: int) -> _Open:
    bundle = candidate.bundle
    session = stack.enter_context(
        candidate.target.open(bundle.folder, bundle.manifest.artifact, threads=threads, bf16=candidate.bf16)
    )
    opened = _Open(candidate, session, session.census(), peak)
    energy_mj, source = measure_energy(_model_subject(opened, frame).run)
    return _Open(candidate, session, opened.census, peak, energy_mj, source)


def _model_subject(opened: _Open, frame: NDArray[np.uint8]) -> Timed:
    preprocess = opened.candidate.bundle.manifest.preprocess
    return model_only(opened.candidate.label, opened.session, resize_frame(frame, preprocess), preprocess)


def _whole_subject(opened: _Open, frame: NDArray[np.uint8]) -> Timed:
    manifest = opened.candidate.bundle.manifest
    return end_to_end(opened.candidate.label, opened.session, frame, manifest.preprocess, manifest.classes)


def _measurements(opened: Sequence[_Open], timing: Timing, scope: Scope) -> list[Measurement]:
    return [_measurement(one, samples, scope) for one, samples in zip(opened, timing.samples, strict=True)]


def _measurement(opened: _Open, samples: Samples, scope: Scope) -> Measurement:
    """Memory, energy and census belong to the model scope: end to end adds this process's frames to them."""
    manifest = opened.candidate.bundle.manifest
    model = scope == "model"
    return Measurement(
        target=opened.candidate.target.name,
        precision=opened.candidate.precision,
        runtime=opened.session.runtime,
        bundle=manifest.name,
        artifact_sha256=manifest.artifact.sha256,
        scope=scope,
        warmup_runs=samples.warmup_runs,
        samples_ns=tuple(samples.total_ns),
        stage_ns=samples.stage_ns(),
        peak_rss_bytes=opened.peak_rss_bytes if model else None,
        energy_mj=opened.energy_mj if model else None,
        energy_source=opened.energy_source if model else None,
        census=opened.census if model else None,
    )
