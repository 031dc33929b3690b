"""Regions that keep their name from frame to frame: one is shown once it has lasted, and kept over a short gap.

One that is not found but whose middle lies in the box of a found one has become part of it, and is gone at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edge_unet.core.errors import UsageError
from edge_unet.segment.regions import Region, box_overlap


@dataclass(frozen=True, slots=True)
class Tracked:
    """A region and its history. `number` is never used twice in one run."""

    number: int
    region: Region
    seen: int = 1
    """Frames it was found in."""
    missing: int = 0
    """Frames in a row that it was not found in."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one frame changed. `shown` is what to draw."""

    shown: tuple[Tracked, ...]
    appeared: tuple[Tracked, ...]
    gone: tuple[Tracked, ...]


class Persistence:
    """Matches regions to those of the frame before by the overlap of their boxes, best first."""

    def __init__(self, appear_frames: int = 3, vanish_frames: int = 5, least_overlap: float = 0.1) -> None:
        if appear_frames < 1 or vanish_frames < 0 or not 0 < least_overlap <= 1:
            raise UsageError(
                "persistence: expected appear_frames >= 1, vanish_frames >= 0 and 0 < least_overlap <= 1, "
                f"received {appear_frames}, {vanish_frames} and {least_overlap}"
            )
        self.appear_frames, self.vanish_frames, self.least_overlap = appear_frames, vanish_frames, least_overlap
        self._tracked: list[Tracked] = []
        self._count = 0

    def __call__(self, regions: Sequence[Region]) -> Change:
        """One frame's regions in, what is shown out."""
        free = list(regions)
        kept, appeared, gone = [], [], []
        for tracked, region in self._matches(free):
            was = self._established(tracked)
            if region is not None:
                new = replace(tracked, region=region, seen=tracked.seen + 1, missing=0)
                kept.append(new)
                appeared += [new] if self._established(new) and not was else []
            elif was and tracked.missing < self.vanish_frames and not _swallowed(tracked.region, regions):
                kept.append(replace(tracked, missing=tracked.missing + 1))
            elif was:
                gone.append(tracked)
        for region in free:
            self._count += 1
            kept.append(new := Tracked(self._count, region))
            appeared += [new] if self._established(new) else []
        self._tracked = kept
        return Change(tuple(t for t in kept if self._established(t)), tuple(appeared), tuple(gone))

    def reset(self) -> tuple[Tracked, ...]:
        """Forget everything, at a scene cut; returns what was shown."""
        shown = tuple(t for t in self._tracked if self._established(t))
        self._tracked = []
        return shown

    def _established(self, tracked: Tracked) -> bool:
        return tracked.seen >= self.appear_frames

    def _matches(self, free: list[Region]) -> list[tuple[Tracked, Region | None]]:
        """Every tracked region with its match, which is taken out of `free`."""
        pairs = [(box_overlap(t.region, r), i, j) for i, t in enumerate(self._tracked) for j, r in enumerate(free)]
        taken: dict[int, int] = {}
        for overlap, i, j in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= self.least_overlap and i not in taken and j not in taken.values():
                taken[i] = j
        matched = [(t, free[taken[i]] if i in taken else None) for i, t in enumerate(self._tracked)]
        used = set(taken.values())
        free[:] = [region for j, region in enumerate(free) if j not in used]
        return matched


def _swallowed(region: Region, found: Sequence[Region]) -> bool:
    """Whether the middle of a region lies in the box of a found one."""
    x, y = region.centroid
    return any(r.box[0] <= x < r.box[0] + r.box[2] and r.box[1] <= y < r.box[1] + r.box[3] for r in found)
