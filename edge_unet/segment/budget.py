"""The time a frame may take, stage by stage, and the time it took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from edge_unet.core.registry import lookup

KEPT = 100_000


class StageTimes:
    """Nanoseconds per stage of a frame, held against a budget in milliseconds per stage.

    Beside the time on the wall it keeps the time that this thread computed: on a busy machine the two differ, and the
    second says what the stage costs. Work in other threads (a runtime's, an encoder's) is not in it.
    """

    def __init__(self, budget_ms: Mapping[str, float]) -> None:
        self.budget_ms = dict(budget_ms)
        self._samples: dict[str, deque[int]] = {stage: deque(maxlen=KEPT) for stage in self.budget_ms}
        self._cpu: dict[str, deque[int]] = {stage: deque(maxlen=KEPT) for stage in self.budget_ms}
        self._totals: deque[int] = deque(maxlen=KEPT)
        self._frame: dict[str, tuple[int, int]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block as part of stage `name`; several blocks of one frame add up."""
        lookup(self.budget_ms, name, "stage")
        wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
        try:
            yield
        finally:
            before = self._frame.get(name, (0, 0))
            spent = time.perf_counter_ns() - wall, time.thread_time_ns() - cpu
            self._frame[name] = before[0] + spent[0], before[1] + spent[1]

    def end_frame(self) -> int:
        """Close a frame; returns its nanoseconds, all stages together. Stages that did not run have no sample."""
        for name, (wall, cpu) in self._frame.items():
            self._samples[name].append(wall)
            self._cpu[name].append(cpu)
        total = sum(wall for wall, _ in self._frame.values())
        self._totals.append(total)
        self._frame = {}
        return total

    def row(self) -> dict[str, Any]:
        """Frames, and per stage and in all: budget, p50 and p90 in milliseconds, p50 of the computing alone, share of
        the time. A stage that never ran has None."""
        spent = sum(self._totals)
        stages = {
            name: {
                "budget_ms": self.budget_ms[name],
                **_percentiles(samples),
                "cpu_p50_ms": _percentiles(self._cpu[name])["p50_ms"],
                "share": _share(samples, spent),
            }
            for name, samples in self._samples.items()
        }
        total = {"budget_ms": sum(self.budget_ms.values()), **_percentiles(self._totals)}
        return {"frames": len(self._totals), "stages": stages, "total": total}

    def lines(self) -> list[str]:
        """The same as text, one line a stage."""
        row = self.row()
        rows = [*row["stages"].items(), ("total", row["total"])]
        return [
            f"{name:<10} budget {r['budget_ms']:6.1f} ms  p50 {r['p50_ms']:6.2f}  p90 {r['p90_ms']:6.2f}"
            + ("  OVER BUDGET" if r["p90_ms"] > r["budget_ms"] else "")
            for name, r in rows
            if r["p50_ms"] is not None
        ]


def _percentiles(samples: deque[int]) -> dict[str, float | None]:
    if not samples:
        return {"p50_ms": None, "p90_ms": None}
    p50, p90 = np.percentile(np.asarray(samples, np.float64), (50, 90)) / 1e6
    return {"p50_ms": round(float(p50), 3), "p90_ms": round(float(p90), 3)}


def _share(samples: deque[int], spent: int) -> float | None:
    return round(sum(samples) / spent, 4) if samples and spent else None
