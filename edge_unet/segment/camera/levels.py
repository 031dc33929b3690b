"""The prune levels of one network, open side by side, so that changing between two frames costs nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edge_unet.core.errors import UsageError
from edge_unet.segment.segmenter import Segmenter

WARM_UP = 2
ROUNDS = 12


@dataclass(frozen=True, slots=True)
class Level:
    """One level: its short name (L1, L2, …) and its opened bundle."""

    name: str
    segmenter: Segmenter


@contextmanager
def open_levels(bundles: Sequence[Path], *, threads: int) -> Iterator[tuple[Level, ...]]:
    """Open the bundles, shallow to deep: what is left of a network grows with its level, so they go by size.

    Raises UsageError where they are not levels of one network (classes or preprocessing differ), and what
    Segmenter.load raises.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(Segmenter.load(folder, threads=threads)) for folder in bundles]
        for other in opened[1:]:
            for what, received, expected in (
                ("classes", other.classes, opened[0].classes),
                ("preprocessing", other.preprocess, opened[0].preprocess),
            ):
                if received != expected:
                    raise UsageError(
                        f"{other.bundle.folder}: its {what} are not those of {opened[0].bundle.folder}; expected prune "
                        "levels of one network: edge-unet prune CHECKPOINT --level L1 --out …, then export each"
                    )
        opened.sort(key=lambda segmenter: segmenter.bundle.manifest.artifact.bytes or 0)
        yield tuple(map(Level, short_names(opened), opened))


def short_names(opened: Sequence[Segmenter]) -> list[str]:
    """The bundles' names without what they share: L1, L2, …; their folders' where the names do not differ."""
    names = [segmenter.bundle.manifest.name for segmenter in opened]
    if len(set(names)) < len(names):
        names = [segmenter.bundle.folder.name for segmenter in opened]
    parts = [name.split("-") for name in names]
    while len(parts) > 1 and len({p[0] for p in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [p[1:] for p in parts]
    while len(parts) > 1 and len({p[-1] for p in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [p[:-1] for p in parts]
    return ["-".join(p) for p in parts]


def measure_levels(levels: Sequence[Level], frame_ns: Callable[[Level], int]) -> tuple[float, ...]:
    """Median nanoseconds of a whole frame at each level. They take turns, so that all see the same weather."""
    samples: list[list[int]] = [[] for _ in levels]
    for turn in range(WARM_UP + ROUNDS):
        for level, taken in zip(levels, samples, strict=True):
            took = frame_ns(level)
            if turn >= WARM_UP:
                taken.append(took)
    return tuple(statistics.median(taken) for taken in samples)
