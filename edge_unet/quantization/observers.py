"""Observers: from watched values to the real range that the grid should cover.

All give a threshold on |x|; the range is [max(min, -threshold), min(max, threshold)]. Ranges serve both schemes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_unet.core.errors import UsageError
from edge_unet.core.registry import lookup, registry

HALF_BINS = 2048
"""Bins on each side of zero. The range doubles as values grow, so at least half of them are in use."""
WIDTH_MIN = 2.0**-100
"""Bins of denormal numbers would have width 0 in float32; values that small are zero on every grid."""
SAMPLES_PER_UPDATE = 1 << 18
"""Values of one update that enter the histogram (evenly strided); minimum and maximum always see all of them."""


class Observer(Protocol):
    """Watches a tensor during calibration."""

    def update(self, x: Tensor) -> None:
        """Take in the values of `x`, any shape."""
        ...

    def range(self) -> tuple[float, float]:
        """The real range to cover. Raises UsageError where nothing was seen."""
        ...


class MinMaxObserver:
    """Covers every value that was seen."""

    def __init__(self) -> None:
        self.low, self.high = float("inf"), float("-inf")

    def update(self, x: Tensor) -> None:
        """Widen the range to the values of `x`. Raises UsageError on NaN or infinity."""
        low, high = (float(v) for v in torch.aminmax(x))
        if not (np.isfinite(low) and np.isfinite(high)):
            raise UsageError("calibration met NaN or infinity; the network has diverged, train it again")
        self.low, self.high = min(self.low, low), max(self.high, high)

    def range(self) -> tuple[float, float]:
        """The least and the greatest value."""
        if self.low > self.high:
            raise UsageError("nothing was observed; calibration needs at least one batch")
        return self.low, self.high


class HistogramObserver(MinMaxObserver):
    """Counts values in bins centred on multiples of `width`, so that exact zeros (ReLU) stay exact."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 0.0
        self.counts: NDArray[np.int64] = np.zeros(2 * HALF_BINS + 1, np.int64)

    def update(self, x: Tensor) -> None:
        """Add the values of `x`, doubling the bin width until they fit."""
        super().update(x)
        limit = max(-self.low, self.high)
        if limit == 0:
            self.counts[HALF_BINS] += x.numel()
            return
        if self.width == 0:
            self.width = max(limit / HALF_BINS, WIDTH_MIN)
        while limit > HALF_BINS * self.width:
            self._double()
        values = x.reshape(-1)[:: max(1, x.numel() // SAMPLES_PER_UPDATE)]
        index = (values.float() / self.width).round_().clamp_(-HALF_BINS, HALF_BINS).to(torch.int64) + HALF_BINS
        self.counts += torch.bincount(index, minlength=2 * HALF_BINS + 1).cpu().numpy()

    def range(self) -> tuple[float, float]:
        """The observed range, cut at the threshold."""
        low, high = super().range()
        if self.width == 0:
            return low, high
        threshold = self.threshold()
        return max(low, -threshold), min(high, threshold)

    def threshold(self) -> float:
        """Where |x| is cut."""
        return HALF_BINS * self.width

    def magnitudes(self) -> NDArray[np.int64]:
        """(HALF_BINS + 1,) counts over |x|: bin i holds values near i * width."""
        folded = self.counts[HALF_BINS:].copy()
        folded[1:] += self.counts[HALF_BINS - 1 :: -1]
        return folded

    def _double(self) -> None:
        old = np.arange(-HALF_BINS, HALF_BINS + 1)
        new = np.rint(old / 2).astype(np.int64) + HALF_BINS
        self.counts = np.bincount(new, weights=self.counts, minlength=2 * HALF_BINS + 1).astype(np.int64)
        self.width *= 2


class PercentileObserver(HistogramObserver):
    """Covers `percentile` percent of |x|."""

    def __init__(self, percentile: float) -> None:
        super().__init__()
        if not 0 < percentile <= 100:
            raise UsageError(f"percentile must lie in (0, 100], received {percentile}")
        self.percentile = percentile

    def threshold(self) -> float:
        """The upper edge of the first bin by which enough of |x| is covered."""
        covered = np.cumsum(self.magnitudes())
        index = int(np.searchsorted(covered, covered[-1] * self.percentile / 100))
        return (index + 0.5) * self.width


class MSEObserver(HistogramObserver):
    """Minimises the mean squared error of rounding and clipping on the symmetric 8-bit grid."""

    def threshold(self) -> float:
        """The best of 100 cuts between the greatest |x| and a fifth of it."""
        limit = max(-self.low, self.high)
        used = np.flatnonzero(self.counts)
        values, weights = (used - HALF_BINS) * np.float64(self.width), self.counts[used]
        cuts = [float(share) * limit for share in np.linspace(1.0, 0.2, 100)]
        errors = [self._error(values, weights, cut) for cut in cuts]
        return cuts[int(np.argmin(errors))]

    @staticmethod
    def _error(values: NDArray[np.floating[Any]], weights: NDArray[np.int64], cut: float) -> float:
        step = cut / 127
        rounded = np.clip(np.rint(values / step), -128, 127) * step
        return float((weights * (values - rounded) ** 2).sum())


class EntropyObserver(HistogramObserver):
    """Minimises the KL divergence between |x| and its 8-bit version (Migacz, GTC 2017, the TensorRT calibrator)."""

    LEVELS = 128
    STRIDE = 8

    def threshold(self) -> float:
        """The cut whose 128-level histogram keeps the most information."""
        counts = self.magnitudes().astype(np.float64)
        counts[0] = counts[1]  # zeros are exact on every grid: their mass says nothing about the step
        last = int(np.flatnonzero(counts)[-1]) if counts.any() else HALF_BINS
        if last < self.LEVELS:
            return (last + 0.5) * self.width
        stops = [*range(self.LEVELS, last + 1, self.STRIDE), last + 1]
        divergences = [self._divergence(counts, stop) for stop in stops]
        return float((stops[int(np.argmin(divergences))] - 0.5) * self.width)

    def _divergence(self, counts: NDArray[np.float64], stop: int) -> float:
        """KL(reference cut at `stop` || the same spread over 128 levels)."""
        reference = counts[:stop].copy()
        reference[-1] += counts[stop:].sum()
        level = np.arange(stop) * self.LEVELS // stop
        filled = counts[:stop] > 0
        mass = np.bincount(level, counts[:stop], self.LEVELS)
        spread = np.bincount(level, filled, self.LEVELS)
        candidate = np.where(filled, mass[level] / np.maximum(spread[level], 1), 0.0)
        total = candidate.sum()
        if total == 0:
            return float("inf")
        p, q = reference / reference.sum(), candidate / total
        known = p > 0
        # A bin that only the clipped tail fills has q = 0: the floor keeps its cost finite but large.
        return float((p[known] * np.log(p[known] / np.maximum(q[known], 1e-12))).sum())


OBSERVERS: Mapping[str, Callable[[float], Observer]] = registry(
    (
        ("minmax", lambda percentile: MinMaxObserver()),
        ("percentile", PercentileObserver),
        ("mse", lambda percentile: MSEObserver()),
        ("entropy", lambda percentile: EntropyObserver()),
    )
)


def make_observer(name: str, percentile: float = 99.99) -> Observer:
    """A fresh observer: minmax, percentile, mse or entropy. Raises UsageError on another name."""
    return lookup(OBSERVERS, name, "observer")(percentile)
