"""Bundles -> latency, memory and energy of each, side by side on this machine, and how far each is from its limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import CanonicalGraph, load_graph
from edge_unet.core.artifact import Census, Scope
from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import EdgeUnetError, UsageError
from edge_unet.core.limits import LayerTimes
from edge_unet.core.protocols import Session, Target
from edge_unet.core.report import FULL, STAND_IN, BenchReport, Measurement, NotMeasured, Schedule
from edge_unet.core.spec import Precision, feed_from_pixels
from edge_unet.devices.runner.energy import measure_energy
from edge_unet.frames import resize_frame
from edge_unet.measure.environment import read_environment, with_after
from edge_unet.measure.latency import Samples, Timed, Timing, end_to_end, measure_latency, model_only
from edge_unet.measure.layer_times import layer_times
from edge_unet.measure.limit import with_limits as add_limits
from edge_unet.measure.memory import peak_rss_bytes
from edge_unet.measure.peaks import machine_peaks

Progress = Callable[[str, float], None]
ENERGY_S = 2.0
"""How long an artifact runs for its energy per run; counters tick about every millisecond."""

PROFILED_RUNS, RAPID_PROFILED_RUNS = 32, 16


@dataclass(frozen=True)
class Candidate:
    """One bundle to time. `bf16` opens a float artifact in bfloat16 arithmetic: a row of its own."""

    bundle: Bundle
    target: Target
    bf16: bool = False
    role: str = ""
    """'base' or 'new': tells two candidates apart that are alike in all else."""

    @property
    def precision(self) -> Precision:
        """The arithmetic that is timed."""
        return Precision.BF16 if self.bf16 else self.bundle.manifest.artifact.precision

    @property
    def label(self) -> str:
        """'kvasir cpu int8': the bundle and what is timed of it, with its role in a comparison."""
        role = f" ({self.role})" if self.role else ""
        return f"{self.bundle.manifest.name} {self.target.name} {self.precision.value}{role}"


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
    with_limits: bool = True,
    with_layer_times: bool = False,
    cached_peaks: bool = False,
    title: str = "edge_unet bench",
    progress: Progress | None = None,
) -> BenchReport:
    """Time all candidates, interleaved. `frame` is one decoded (H, W, C) u8 camera frame in the bundles' colour order.

    Candidates whose target does not execute here are listed under `not_measured`: an interpreter's latency says
    nothing. Verify and evaluate results, pictures and notes are added by the caller with model_copy(update=...).
    `with_limits` measures the machine's peaks first (`cached_peaks`: unless an earlier run kept them) and sets each
    model beside its limit; `with_layer_times` runs each artifact once more under its runtime's profiler, afterwards.
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
    rapid = schedule.runs < FULL.runs
    peaks = machine_peaks(threads, cached=cached_peaks, rapid=rapid) if with_limits else None
    memory = [_peak_bytes(candidate, threads) if with_memory else None for candidate in runnable]
    measurements, burst_order = _timed(runnable, memory, frame, schedule, threads, with_end_to_end, progress)
    report = BenchReport(
        title=title,
        environment=with_after(environment),
        schedule=schedule,
        burst_order=burst_order,
        measurements=measurements,
        not_measured=left_out,
    )
    graphs = _graphs(runnable) if with_limits or with_layer_times else {}
    if with_layer_times:
        runs = RAPID_PROFILED_RUNS if rapid else PROFILED_RUNS
        report = _with_layer_times(report, runnable, graphs, frame, runs, threads)
    return report if peaks is None else add_limits(report, graphs, peaks)


def _timed(
    runnable: Sequence[Candidate],
    memory: Sequence[int | None],
    frame: NDArray[np.uint8],
    schedule: Schedule,
    threads: int,
    with_end_to_end: bool,
    progress: Progress | None,
) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
    """The measurements of all candidates and the order of the model's bursts."""
    measurements: list[Measurement] = []
    with ExitStack() as stack:
        stack.callback(cv2.setNumThreads, cv2.getNumThreads())
        cv2.setNumThreads(threads)  # resizing and drawing get as many threads as the runtimes
        opened = [
            _start(stack, candidate, peak, frame, threads) for candidate, peak in zip(runnable, memory, strict=True)
        ]
        timing = measure_latency([_model_subject(o, frame) for o in opened], schedule, progress=progress)
        measurements += _measurements(opened, timing, "model")
        if with_end_to_end:
            whole = measure_latency([_whole_subject(o, frame) for o in opened], schedule, progress=progress)
            measurements += _measurements(opened, whole, "end_to_end")
    return tuple(measurements), timing.burst_order


def _graphs(runnable: Sequence[Candidate]) -> dict[str, CanonicalGraph]:
    """artifact_sha256 -> the canonical graph; one that several artifacts were lowered from is read once."""
    read: dict[str, CanonicalGraph] = {}
    for bundle in (candidate.bundle for candidate in runnable):
        parent = bundle.manifest.artifact.parent_sha256
        if parent not in read:
            read[parent] = load_graph(bundle.canonical)
    artifacts = [candidate.bundle.manifest.artifact for candidate in runnable]
    return {artifact.sha256: read[artifact.parent_sha256] for artifact in artifacts}


def _with_layer_times(
    report: BenchReport,
    runnable: Sequence[Candidate],
    graphs: Mapping[str, CanonicalGraph],
    frame: NDArray[np.uint8],
    runs: int,
    threads: int,
) -> BenchReport:
    """The report with the layer times of every target that has a profiler, and a note for each that has none."""
    found: list[LayerTimes] = []
    notes: list[str] = []
    for candidate in runnable:
        bundle, preprocess = candidate.bundle, candidate.bundle.manifest.preprocess
        spec = bundle.manifest.artifact.inputs[0]
        feeds = {spec.name: feed_from_pixels(resize_frame(frame, preprocess)[None], spec, preprocess)}
        graph = graphs[bundle.manifest.artifact.sha256]
        try:
            found.append(
                layer_times(bundle, candidate.target, feeds, runs, threads=threads, bf16=candidate.bf16, graph=graph)
            )
        except EdgeUnetError as error:
            notes.append(f"no layer times of {candidate.label}: {error}")
    return report.model_copy(update={"layer_times": tuple(found), "notes": (*report.notes, *notes)})


def _check_labels(labels: Sequence[str]) -> None:
    """Rows are told apart by their labels."""
    twice = sorted({label for label in labels if labels.count(label) > 1})
    if twice:
        raise UsageError(
            f"bench: two bundles have the same name, target and precision: {', '.join(twice)}; "
            "give each one once, or other names to other models (name in the recipe)"
        )


def _peak_bytes(candidate: Candidate, threads: int) -> int | None:
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
    energy_mj, source = measure_energy(_model_subject(opened, frame).run, ENERGY_S)
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
