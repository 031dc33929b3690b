# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""The timing protocol, here and on every device; why it is so stands in edge_unet/measure/latency.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .job import Schedule


@dataclass(frozen=True)
class Timed:
    """Something that can be run. `run` returns the nanoseconds of each of `stages`, or nothing for one stage."""

    label: str
    run: Callable[[], Sequence[int]]
    stages: tuple[str, ...] = ()


@dataclass
class Samples:
    """All counted runs of one subject, in order."""

    warmup_runs: int = 0
    total_ns: list[int] = field(default_factory=list)
    stage_samples_ns: list[tuple[int, ...]] = field(default_factory=list)
    spent_ns: int = 0
    """Counted and discarded runs together."""


def measure(
    subjects: Sequence[Timed],
    schedule: Schedule,
    progress: Callable[[str, float], None],
    clock: Callable[[], int] = time.perf_counter_ns,
) -> tuple[list[Samples], list[str]]:
    """(samples of each subject, labels in the order their bursts ran). Warm-up of each, then bursts by turns: runs
    that are discarded and runs that count. A subject leaves at `runs` counted runs or after `limit_ns` of its own."""
    results = [Samples() for _ in subjects]
    for subject, samples in zip(subjects, results):  # noqa: B905 - Python 3.8
        samples.warmup_runs = _warm_up(subject, schedule, clock)
    order: list[str] = []
    active = list(zip(subjects, results))  # noqa: B905
    while active:
        for subject, samples in active:
            _burst(subject, samples, schedule, clock)
            order.append(subject.label)
            progress(subject.label, _share(samples, schedule))
        active = [(subject, samples) for subject, samples in active if _share(samples, schedule) < 1]
    return results, order


def _warm_up(subject: Timed, schedule: Schedule, clock: Callable[[], int]) -> int:
    start, runs = clock(), 0
    while runs < schedule.warmup_runs or clock() - start < schedule.warmup_ns:
        subject.run()
        runs += 1
    return runs


def _burst(subject: Timed, samples: Samples, schedule: Schedule, clock: Callable[[], int]) -> None:
    counted = min(schedule.burst, schedule.runs - len(samples.total_ns))
    for number in range(schedule.discarded + counted):
        start = clock()
        stages = subject.run()
        took = clock() - start
        samples.spent_ns += took
        if number >= schedule.discarded:
            samples.total_ns.append(took)
            samples.stage_samples_ns.append(tuple(stages))


def _share(samples: Samples, schedule: Schedule) -> float:
    return min(1.0, max(len(samples.total_ns) / schedule.runs, samples.spent_ns / schedule.limit_ns))
