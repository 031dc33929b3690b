"""The bootstrap: exact where nothing varies, wide where bursts vary, narrow where both sides share the weather."""

from __future__ import annotations

import numpy as np
import pytest

from edge_unet.core.report import percentile_ns
from edge_unet.measure.compare_ratio import LEAST_BURSTS, Ratio, interval_ns, ratios

BURST = 5
Samples = tuple[int, ...]


def weather(seed: int, bursts: int = 13, spread: float = 0.1) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """One factor for each run; all runs of a burst share it."""
    return np.repeat(np.exp(np.random.default_rng(seed).normal(0, spread, bursts)), BURST)


def samples(base_ns: float, factors: np.ndarray[tuple[int], np.dtype[np.float64]], seed: int) -> Samples:
    own = np.random.default_rng(seed).normal(1, 0.005, len(factors))
    return tuple(np.rint(base_ns * factors * own).astype(int).tolist())


def p50(base: Samples, new: Samples, *, paired: bool = False, burst: int = BURST) -> Ratio:
    (found,) = ratios([base], [new], (50,), bursts=(burst, burst), paired=paired)
    return found


def width(ratio: Ratio) -> float:
    assert ratio.low is not None
    assert ratio.high is not None
    return ratio.high - ratio.low


def test_without_noise_the_ratio_is_exact() -> None:
    (middle, tail) = ratios([(100,) * 64], [(110,) * 64], (50, 90), bursts=(5, 5), paired=False)
    assert (middle.value, middle.low, middle.high) == pytest.approx((1.1, 1.1, 1.1))
    assert tail == middle
    assert middle.slower
    assert not middle.faster


def test_a_short_last_burst_counts_and_its_filling_does_not() -> None:
    """64 runs are 12 bursts of 5 and one of 4."""
    base, new = tuple(range(1000, 1064)), tuple(range(3000, 3128, 2))
    found = ratios([base], [new], (1, 50, 90, 99), bursts=(5, 5), paired=False)
    expected = [percentile_ns(new, p) / percentile_ns(base, p) for p in (1, 50, 90, 99)]
    assert [r.value for r in found] == pytest.approx(expected)
    assert all(r.high is not None and r.high < 3.2 for r in found)


def test_runs_of_one_burst_are_one_witness() -> None:
    base, new = samples(1e6, weather(1), 2), samples(1e6, weather(3), 4)
    assert width(p50(base, new)) > 1.5 * width(p50(base, new, burst=1))


def test_what_slows_both_sides_cancels_where_they_took_turns() -> None:
    shared = weather(5, spread=0.2)
    base, new = samples(1e6, shared, 6), samples(1.1e6, shared, 7)
    together, apart = p50(base, new, paired=True), p50(base, new)
    assert together.slower
    assert width(together) < 0.1
    assert not apart.slower  # the same samples from two runs of their own say nothing
    assert width(apart) > 5 * width(together)


def test_paired_bursts_beyond_the_shorter_side_are_left_out() -> None:
    base = (100,) * 50
    new = (100,) * 50 + (900,) * 500
    assert p50(base, new, paired=True).value == 1
    assert p50(base, new).value == 9


def test_repeats_that_disagree_widen_the_interval() -> None:
    base = [(100,) * 50] * 3
    steady = ratios(base, [(110,) * 50] * 3, (50,), bursts=(5, 5), paired=True)[0]
    shifting = ratios(base, [(90,) * 50, (110,) * 50, (130,) * 50], (50,), bursts=(5, 5), paired=True)[0]
    assert (steady.value, steady.low, steady.high) == pytest.approx((1.1, 1.1, 1.1))
    assert shifting.value == pytest.approx(1.1)
    assert (shifting.low, shifting.high) == pytest.approx((0.9, 1.3))
    assert not shifting.slower


def test_few_bursts_give_no_interval() -> None:
    few, enough = (100,) * (BURST * (LEAST_BURSTS - 1)), (100,) * (BURST * LEAST_BURSTS)
    assert p50(few, enough) == Ratio(value=1.0)
    assert p50(enough, enough).low == 1
    assert interval_ns(few, 50, burst=BURST) is None
    assert interval_ns(enough, 50, burst=BURST) == (100, 100)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Sixty pairs of alike subjects with noisy bursts: at 95 % three are expected outside, ten would be a fault."""
    outside = 0
    for seed in range(60):
        base = samples(1e6, weather(4 * seed, bursts=40, spread=0.05), 4 * seed + 1)
        new = samples(1e6, weather(4 * seed + 2, bursts=40, spread=0.05), 4 * seed + 3)
        found = p50(base, new)
        outside += found.slower or found.faster
    assert outside <= 9


def test_the_same_samples_give_the_same_interval() -> None:
    base, new = samples(1e6, weather(1), 2), samples(1e6, weather(3), 4)
    assert p50(base, new) == p50(base, new)


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="samples on both sides"):
        ratios([()], [(1,)], (50,), bursts=(5, 5), paired=False)
