"""How frames are timed: warm-up, then engines by turns, every sample kept in nanoseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

BLOCK = 16
"""Runs of one engine before the next one's turn: both see the same clocks and temperature."""


@dataclass(frozen=True)
class Sample:
    """One frame. The first three from CUDA events; `total_ns` on the host's clock, copies and synchronisation
    included."""

    h2d_ns: int
    compute_ns: int
    d2h_ns: int
    total_ns: int


@dataclass(frozen=True)
class Protocol:
    """Warm-up is at least `warmup_runs` and `warmup_ns`; then `runs` runs or `limit_ns`, whichever comes first."""

    warmup_runs: int = 10
    warmup_ns: int = 1_000_000_000
    runs: int = 1024
    limit_ns: int = 60_000_000_000


RAPID = Protocol(runs=64, limit_ns=6_000_000_000)


def measure(
    engines: Mapping[str, Callable[[], Sample]],
    protocol: Protocol,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, list[Sample]]:
    """Time every engine by turns. Raises nothing of its own; an engine's error goes through."""
    for run in engines.values():
        start, count = clock(), 0
        while count < protocol.warmup_runs or clock() - start < protocol.warmup_ns:
            run()
            count += 1
    samples: dict[str, list[Sample]] = {name: [] for name in engines}
    start = clock()
    while any(len(taken) < protocol.runs for taken in samples.values()) and clock() - start < protocol.limit_ns:
        for name, run in engines.items():
            samples[name].extend(run() for _ in range(min(BLOCK, protocol.runs - len(samples[name]))))
    return samples


def quantile_ns(values: list[int], share: float) -> int:
    """The smallest sample that at least `share` of the samples do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def summary(samples: list[Sample]) -> dict[str, dict[str, int]]:
    """{'total_ns': {'p50': …, 'p90': …, 'p99': …}, …} per part."""
    return {
        part: {f"p{q}": quantile_ns([getattr(s, part) for s in samples], q / 100) for q in (50, 90, 99)}
        for part in ("h2d_ns", "compute_ns", "d2h_ns", "total_ns")
    }


def as_json(samples: list[Sample]) -> dict[str, list[int]]:
    """Every raw sample, one list per part."""
    return {part: [getattr(s, part) for s in samples] for part in ("h2d_ns", "compute_ns", "d2h_ns", "total_ns")}
