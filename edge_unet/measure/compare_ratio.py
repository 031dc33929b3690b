"""How certain is a ratio of two latencies? A bootstrap over bursts and repeats.

Runs of one burst share the machine's weather, so they are no independent witnesses: whole bursts are drawn, not runs.
Where base and new took turns in one run, their n-th bursts stand side by side in time and are drawn together, so that
what slowed both cancels. What differs from one loading of a model to the next (where its memory lies) is only seen by
loading it again: with several repeats, repeats are drawn too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.spec import Frozen

CONFIDENCE = 0.95
RESAMPLES = 2000
LEAST_BURSTS = 8
"""Fewer bursts than this cannot say how much they vary: there is a ratio then, and no interval."""
SEED = 20_260
_MOST_VALUES = 4_000_000
"""Resampled values held at once."""

Floats = NDArray[np.float64]
Repeats = Sequence[Sequence[int]]
"""The samples of each repeat, in the order taken."""


class Ratio(Frozen):
    """New over base; 1 is the same, above 1 is slower. `low` and `high` hold 95 % of the resampled ratios; None where
    there were too few bursts to tell."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def slower(self) -> bool:
        """Whether the whole interval lies above 1."""
        return self.low is not None and self.low > 1

    @property
    def faster(self) -> bool:
        """Whether the whole interval lies below 1."""
        return self.high is not None and self.high < 1


def ratios(
    base: Repeats, new: Repeats, percents: Sequence[float], *, bursts: tuple[int, int], paired: bool, seed: int = SEED
) -> tuple[Ratio, ...]:
    """The ratio of each percentile. `bursts` is how many counted runs made one burst, in base and in new.

    `paired`: base and new took turns, repeat by repeat, in bursts of the same length. Raises ValueError without
    samples, or where paired repeats differ in number.
    """
    if not base or not new or not all(map(len, (*base, *new))):
        raise ValueError("a ratio needs samples on both sides")
    left, right = ([_blocks(samples, size) for samples in side] for side, size in zip((base, new), bursts, strict=True))
    if paired:
        common = [min(len(b), len(n)) for b, n in zip(left, right, strict=True)]
        left = [blocks[:count] for blocks, count in zip(left, common, strict=True)]
        right = [blocks[:count] for blocks, count in zip(right, common, strict=True)]
    rng = np.random.default_rng(seed)
    value = _once(left, right, percents, paired)
    if min(sum(map(len, left)), sum(map(len, right))) < LEAST_BURSTS:
        return tuple(Ratio(value=float(v)) for v in value)
    drawn = _drawn_paired(left, right, percents, rng) if paired else _drawn_apart(left, right, percents, rng)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn, (tail, 100 - tail), axis=0)
    return tuple(Ratio(value=float(v), low=float(a), high=float(b)) for v, a, b in zip(value, low, high, strict=True))


def interval_ns(samples: Sequence[int], percent: float, *, burst: int, seed: int = SEED) -> tuple[int, int] | None:
    """The interval of one percentile of one run, None where there are too few bursts."""
    blocks = _blocks(samples, burst)
    if len(blocks) < LEAST_BURSTS:
        return None
    drawn = _resampled(blocks, (percent,), np.random.default_rng(seed))
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn[:, 0], (tail, 100 - tail))
    return round(float(low)), round(float(high))


def _blocks(samples: Sequence[int], burst: int) -> Floats:
    """(bursts, burst); a last burst that is short is filled with infinity, which no percentile counts."""
    count = math.ceil(len(samples) / burst)
    blocks = np.full(count * burst, np.inf)
    blocks[: len(samples)] = samples
    return blocks.reshape(count, burst)


def _percentiles(rows: Floats, percents: Sequence[float]) -> Floats:
    """(rows, percents) nearest-rank percentiles of the finite values of each row, as core.report takes them."""
    ordered = np.sort(rows, axis=1)
    counts = np.isfinite(ordered).sum(axis=1)
    ranks = [np.maximum(1, np.ceil(counts * percent / 100)).astype(int) - 1 for percent in percents]
    return np.take_along_axis(ordered, np.stack(ranks, axis=1), axis=1)


def _once(left: Sequence[Floats], right: Sequence[Floats], percents: Sequence[float], paired: bool) -> Floats:
    """The ratio of what was measured: the middle one of the repeats' ratios, or of the sides' middle repeats."""
    below, above = (
        np.concatenate([_percentiles(blocks.reshape(1, -1), percents) for blocks in side]) for side in (left, right)
    )
    if paired:
        return np.asarray(np.median(above / below, axis=0))
    return np.asarray(np.median(above, axis=0) / np.median(below, axis=0))


def _resampled(
    blocks: Floats, percents: Sequence[float], rng: np.random.Generator, picks: NDArray[np.int64] | None = None
) -> Floats:
    """(RESAMPLES, percents) percentiles of bursts drawn with replacement."""
    drawn = rng.integers(len(blocks), size=(RESAMPLES, len(blocks))) if picks is None else picks
    step = max(1, _MOST_VALUES // blocks.size)
    parts = [
        _percentiles(blocks[drawn[at : at + step]].reshape(-1, blocks.size), percents)
        for at in range(0, RESAMPLES, step)
    ]
    return np.concatenate(parts)


def _drawn_paired(
    left: Sequence[Floats], right: Sequence[Floats], percents: Sequence[float], rng: np.random.Generator
) -> Floats:
    found = []
    for below, above in zip(left, right, strict=True):
        picks = rng.integers(len(below), size=(RESAMPLES, len(below)))
        found.append(_resampled(above, percents, rng, picks) / _resampled(below, percents, rng, picks))
    return _middle_repeat(np.stack(found), rng)


def _drawn_apart(
    left: Sequence[Floats], right: Sequence[Floats], percents: Sequence[float], rng: np.random.Generator
) -> Floats:
    below, above = (
        _middle_repeat(np.stack([_resampled(blocks, percents, rng) for blocks in side]), rng) for side in (left, right)
    )
    return above / below


def _middle_repeat(found: Floats, rng: np.random.Generator) -> Floats:
    """(repeats, RESAMPLES, percents) -> (RESAMPLES, percents): repeats drawn with replacement, then their median."""
    repeats = len(found)
    if repeats == 1:
        return np.asarray(found[0])
    which = rng.integers(repeats, size=(RESAMPLES, repeats))
    at = rng.integers(RESAMPLES, size=(RESAMPLES, repeats))
    return np.asarray(np.median(found[which, at], axis=1))
