# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""The whole run: open, check the golden frames, measure memory and energy, time, write result.json."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import engines, heat, machine, memory
from .energy import measure_energy
from .errors import DISAGREES, RunnerError
from .job import SCHEMA, Job, Subject, read_job, sha256_of, write_json
from .latency import Samples, Timed, measure
from .masks import agreement
from .sessions import Opened, open_subject

Say = Callable[[str], None]
SAY_EVERY_S = 5.0


def run(job_file: Path, result_file: Path, program: Path, say: Say) -> None:
    """Read the job, do it, write the result whole. Raises RunnerError with one line; nothing is written then."""
    job = read_job(job_file)
    found = machine.probe()
    before = heat.read_state()
    with ExitStack() as stack:
        opened, skipped = _open_all(stack, job, say)
        _check_golden(opened)
        costs = [_costs(one, number, job, job_file, program, say) for number, one in opened]
        subjects = [Timed(one.label, one.run, one.stages) for _, one in opened]
        samples, order = measure(subjects, job.schedule, _progress(say, len(subjects)))
    after = heat.read_state()
    found["warnings"] = [*found["warnings"], *heat.changes(before, after)]
    result = {
        "schema": SCHEMA,
        "environment": {**found, "after": after.as_json(), "throttled": heat.was_throttled(before, after)},
        "burst_order": order,
        "rows": [
            _row(number, one, taken, cost)
            for (number, one), taken, cost in zip(opened, samples, costs)  # noqa: B905 - Python 3.8
        ],
        "skipped": skipped,
    }
    write_json(result_file, result)


def _open_all(stack: ExitStack, job: Job, say: Say) -> tuple[list[tuple[int, Opened]], list[dict[str, Any]]]:
    """((number of the subject, what was opened of it), …) and what was left out, with the reason."""
    opened: list[tuple[int, Opened]] = []
    skipped: list[dict[str, Any]] = []
    for number, subject in enumerate(job.subjects):
        received = sha256_of(subject.artifact)
        if received != subject.sha256:
            raise RunnerError(f"{subject.label}: arrived damaged: sha256 {received[:12]}…, sent {subject.sha256[:12]}…")
        try:
            if subject.engine == "tensorrt":
                engines.build(subject, say)
                opened += [(number, one) for one in engines.open_engines(stack, subject)]
            else:
                opened.append((number, _with_golden(open_subject(subject, job.threads), subject)))
        except RunnerError as error:
            if not subject.optional:
                raise
            skipped.append({"subject": number, "reason": str(error)})
    return opened, skipped


def _with_golden(opened: Opened, subject: Subject) -> Opened:
    assert opened.infer is not None
    opened.golden.extend(agreement(opened.infer, golden, subject.output) for golden in subject.golden)
    return opened


def _check_golden(opened: Sequence[tuple[int, Opened]]) -> None:
    """The mean over the frames, as verify has it. Raises RunnerError DISAGREES naming every subject below its gate."""
    failed = []
    for _, one in opened:
        gate = one.subject.gates.get(one.precision)
        mean = sum(one.golden) / len(one.golden) if one.golden else 0.0
        if gate is not None and mean < gate:
            worst = min(range(len(one.golden)), key=one.golden.__getitem__, default=0)
            failed.append(f"{one.label} {mean:.4%} (worst: frame {worst}), gate {gate:.4%}")
    if failed:
        raise RunnerError(f"golden masks disagree on the device: {'; '.join(failed)}", DISAGREES)


def _costs(one: Opened, number: int, job: Job, job_file: Path, program: Path, say: Say) -> dict[str, Any]:
    """Memory and energy of one subject."""
    say(f"{one.label}: {one.runtime}, memory and energy")
    peak = memory.peak_rss_bytes(program, job_file, number, one)
    energy_mj, source = measure_energy(one.run, job.energy_seconds)
    return {"peak_rss_bytes": peak, "energy_mj": energy_mj, "energy_source": source}


def _progress(say: Say, count: int) -> Callable[[str, float], None]:
    """Says how far the timing is, every few seconds."""
    shares: dict[str, float] = {}
    last = [time.monotonic()]

    def hear(label: str, share: float) -> None:
        shares[label] = share
        if time.monotonic() - last[0] > SAY_EVERY_S:
            last[0] = time.monotonic()
            say(f"timing, {sum(shares.values()) / count:.0%} done")

    return hear


def _row(number: int, one: Opened, samples: Samples, costs: dict[str, Any]) -> dict[str, Any]:
    stages = list(zip(*samples.stage_samples_ns)) if one.stages else []  # noqa: B905
    return {
        "subject": number,
        "sha256": one.subject.sha256,
        "precision": one.precision,
        "runtime": one.runtime,
        "golden": one.golden,
        "layers": one.layers,
        "warmup_runs": samples.warmup_runs,
        "samples_ns": samples.total_ns,
        "stages_ns": dict(zip(one.stages, stages)),  # noqa: B905
        **costs,
    }
