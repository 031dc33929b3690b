"""What happened in a camera run: counts, and the last frames' times per stage in buffers that never grow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

STAGES = ("wait", "decode", "preprocess", "infer", "postprocess", "draw", "sink")
"""In the loop's own time, but for `decode`: it runs in the capture thread, beside the others."""
FRAME = ("preprocess", "infer", "postprocess", "draw")
"""From a frame in hand to its finished picture: what a deadline is held against."""
KEPT = 65_536
"""Frames whose times are kept: 43 minutes at 25 frames per second, in 4 MiB."""


class Ring:
    """The last `size` rows of a table of int64. Its memory is taken once, so that a run of days needs no more."""

    def __init__(self, columns: int, size: int = KEPT) -> None:
        self._rows = np.full((size, columns), -1, np.int64)  # written, so that it is really taken now
        self.count = 0

    def append(self, row: tuple[int, ...]) -> None:
        """Add a row; the oldest gives way."""
        self._rows[self.count % len(self._rows)] = row
        self.count += 1

    def last(self, most: int | None = None) -> NDArray[np.int64]:
        """(rows, columns), oldest first, at most `most` of them."""
        there = min(self.count, len(self._rows), self.count if most is None else most)
        return self._rows[np.arange(self.count - there, self.count) % len(self._rows)]


@dataclass
class CameraStats:
    """Counts, and the times of the last frames. `levels` names the prune levels of the run, shallow to deep."""

    levels: tuple[str, ...] = ()
    deadline_ms: float | None = None
    frames: int = 0
    held: int = 0
    """Frames that were ready within the deadline."""
    dropped: int = 0
    stalls: int = 0
    reopened: int = 0
    switches: int = 0
    seconds: float = 0.0
    base_ms: tuple[float, ...] = ()
    """Median frame of each level, measured at the start; empty without a deadline."""
    per_level: list[int] = field(default_factory=list)
    """Frames that each level has segmented."""
    rows: Ring = field(default_factory=lambda: Ring(len(STAGES) + 2))
    """One row a frame: nanoseconds of each stage, then the level, then nanoseconds since the start."""

    def __post_init__(self) -> None:
        self.per_level = [0] * max(1, len(self.levels))

    def add(self, stages_ns: dict[str, int], level: int, at_ns: int) -> int:
        """Count one frame; returns what it took from frame to picture."""
        self.rows.append((*(stages_ns[name] for name in STAGES), level, at_ns))
        total = sum(stages_ns[name] for name in FRAME)
        self.frames += 1
        self.per_level[level] += 1
        self.held += self.deadline_ms is not None and total <= self.deadline_ms * 1e6
        return total

    def stage_ns(self, stage: str, most: int | None = None) -> NDArray[np.int64]:
        """The last frames' nanoseconds in a stage, or in 'frame', the sum from a frame to its picture."""
        rows = self.rows.last(most)
        if stage == "frame":
            return np.asarray(rows[:, [STAGES.index(name) for name in FRAME]].sum(axis=1))
        return np.asarray(rows[:, STAGES.index(stage)])

    def percentile_ms(self, stage: str, percent: float) -> float | None:
        """Percentile of a stage, or of 'frame', in milliseconds; None before the first frame."""
        samples = self.stage_ns(stage)
        return float(np.percentile(samples, percent)) / 1e6 if samples.size else None

    @property
    def fps(self) -> float | None:
        """Whole rounds of the loop per second over the last two seconds or so; None before the first frame."""
        rows = self.rows.last(120)
        spent = rows[:, [n for n, name in enumerate(STAGES) if name != "decode"]].sum()
        return 1e9 * len(rows) / float(spent) if spent else None

    def row(self) -> dict[str, Any]:
        """For --json."""
        names = (*STAGES, "frame")
        stages = {s: {f"p{p}_ms": self.percentile_ms(s, p) for p in (50, 90, 99)} for s in names}
        counts = {name: getattr(self, name) for name in ("frames", "dropped", "stalls", "reopened", "seconds")}
        return counts | {
            "fps": self.frames / self.seconds if self.seconds else None,
            "stages": {name: stages[name] for name in STAGES},
            "frame": stages["frame"],
            "levels": dict(zip(self.levels, self.per_level, strict=False)),
            "deadline": self._deadline_row(),
        }

    def _deadline_row(self) -> dict[str, Any] | None:
        if self.deadline_ms is None:
            return None
        return {
            "ms": self.deadline_ms,
            "held": self.held,
            "share": self.held / self.frames if self.frames else None,
            "switches": self.switches,
            "base_ms": dict(zip(self.levels, self.base_ms, strict=False)),
        }

    def summary(self) -> str:
        """The last line of a run."""
        times = ", ".join(f"{s} {self.percentile_ms(s, 90):.1f}" for s in (*STAGES, "frame")) if self.frames else "none"
        held = ""
        if self.deadline_ms is not None and self.frames:
            spent = ", ".join(f"{name} {n}" for name, n in zip(self.levels, self.per_level, strict=True))
            held = (
                f"; {100 * self.held / self.frames:.1f} % within {self.deadline_ms:g} ms, {self.switches} switches "
                f"({spent})"
            )
        return (
            f"{self.frames} frames in {self.seconds:.1f} s, {self.dropped} dropped, {self.stalls} stalls, "
            f"{self.reopened} reopened{held}; p90 ms: {times}"
        )
