"""Two artifacts timed in turns in one run: the strongest comparison, since whatever slows the machine slows both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.core.report import FULL, STAND_IN, BenchReport, Measurement, Schedule
from edge_unet.measure.bench import Candidate, Progress, bench

BASE, NEW = "base", "new"


def time_in_turns(
    base: Candidate,
    new: Candidate,
    frame: NDArray[np.uint8],
    *,
    repeats: int = 3,
    schedule: Schedule = FULL,
    threads: int = 1,
    progress: Progress | None = None,
) -> tuple[BenchReport, BenchReport]:
    """Both models alone, `repeats` times: each time both are loaded anew, and the other one goes first.

    The two reports hold one measurement for each repeat, in the same order, with base's rows under new's names: the
    caller chose what to compare, so that a renamed bundle is no stranger. Raises UsageError where one of them does
    not execute on this machine.
    """
    for candidate in (base, new):
        if not candidate.target.executes_here:
            raise UsageError(f"compare: {candidate.label} cannot be timed here: {STAND_IN}; compare result files")
    sides = (replace(base, role=BASE), replace(new, role=NEW))
    before: list[Measurement] = []
    after: list[Measurement] = []
    for number in range(repeats):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        report = bench(
            [sides[at] for at in order], frame, schedule=schedule, threads=threads, with_end_to_end=False,
            with_memory=False, with_limits=False, progress=progress,
        )  # fmt: skip
        found = dict(zip(order, report.measurements, strict=True))
        before.append(_renamed(found[0], found[1]))
        after.append(found[1])
    return _side(report, BASE, before), _side(report, NEW, after)


def _renamed(base: Measurement, new: Measurement) -> Measurement:
    names = {"bundle": new.bundle, "target": new.target, "precision": new.precision}
    return base.model_copy(update=names)


def _side(report: BenchReport, title: str, measurements: Sequence[Measurement]) -> BenchReport:
    """One side of the run; both share the machine."""
    return report.model_copy(update={"title": title, "measurements": tuple(measurements)})
