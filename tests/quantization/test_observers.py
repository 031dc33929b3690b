from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_unet.core.errors import UsageError
from edge_unet.quantization.observers import (
    OBSERVERS,
    HistogramObserver,
    MSEObserver,
    PercentileObserver,
    make_observer,
)

VALUES = arrays(np.float32, st.integers(1, 200), elements=st.floats(-1000, 1000, width=32))


@settings(deadline=None, max_examples=40)
@given(VALUES, st.sampled_from(sorted(OBSERVERS)))
def test_a_range_never_exceeds_what_was_seen(values: np.ndarray, name: str) -> None:  # type: ignore[type-arg]
    observer = make_observer(name)
    observer.update(torch.from_numpy(values))
    low, high = observer.range()
    assert values.min() <= low or low == pytest.approx(values.min())
    assert high <= values.max() or high == pytest.approx(values.max())


@settings(deadline=None, max_examples=40)
@given(VALUES)
def test_a_histogram_keeps_its_count_while_it_grows(values: np.ndarray) -> None:  # type: ignore[type-arg]
    observer = HistogramObserver()
    for part in np.array_split(np.sort(np.abs(values)), 4):
        if part.size:
            observer.update(torch.from_numpy(part.copy()))
    assert observer.counts.sum() == values.size
    assert observer.threshold() >= np.abs(values).max() * 0.999


@settings(deadline=None, max_examples=20)
@given(st.floats(50, 99), st.floats(0.1, 1))
def test_a_higher_percentile_covers_more(percentile: float, more: float) -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    lesser, greater = PercentileObserver(percentile), PercentileObserver(percentile + more)
    lesser.update(x)
    greater.update(x)
    assert lesser.range()[1] <= greater.range()[1]


def test_minmax_by_hand() -> None:
    observer = make_observer("minmax")
    observer.update(torch.tensor([1.0, -2.0]))
    observer.update(torch.tensor([[5.0]]))
    assert observer.range() == (-2.0, 5.0)


def test_percentile_by_hand() -> None:
    observer = make_observer("percentile", 90.0)
    observer.update(torch.arange(1.0, 101.0))  # 1 … 100
    assert observer.range()[0] == 1.0
    assert observer.range()[1] == pytest.approx(90, abs=0.1)


def test_mse_cuts_a_lone_outlier_and_keeps_a_uniform_range() -> None:
    uniform = MSEObserver()
    uniform.update(torch.linspace(-1, 1, 100_001))
    assert uniform.range()[1] == pytest.approx(1.0, abs=0.02)
    outlier = MSEObserver()
    outlier.update(torch.cat([torch.randn(100_000, generator=torch.Generator().manual_seed(0)), torch.tensor([20.0])]))
    # d/dt of (20 - t)^2 / 1e5 + t^2 / (12 * 127^2) is zero at t = 20 / (1 + 1e5 / (12 * 127^2)).
    assert outlier.range()[1] == pytest.approx(13.2, abs=0.7)


def test_mse_error_is_not_above_that_of_the_full_range() -> None:
    x = torch.randn(50_000, generator=torch.Generator().manual_seed(3)) ** 3
    observer = MSEObserver()
    observer.update(x)
    cut = max(abs(v) for v in observer.range())

    def error(limit: float) -> float:
        step = limit / 127
        return float((x - (x / step).round().clamp(-128, 127) * step).square().mean())

    assert error(cut) < error(float(x.abs().max()))


def test_entropy_cuts_a_long_tail() -> None:
    x = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    x[:5] = torch.tensor([30.0, -30.0, 28.0, 25.0, -26.0])
    observer = make_observer("entropy")
    observer.update(x)
    assert 2.5 < observer.range()[1] < 15


@pytest.mark.parametrize("name", sorted(OBSERVERS))
def test_all_zeros_are_a_range(name: str) -> None:
    observer = make_observer(name)
    observer.update(torch.zeros(10))
    assert observer.range() == (0.0, 0.0)


@pytest.mark.parametrize("name", sorted(OBSERVERS))
def test_observers_refuse_what_is_no_range(name: str) -> None:
    with pytest.raises(UsageError, match="at least one batch"):
        make_observer(name).range()
    with pytest.raises(UsageError, match="NaN"):
        make_observer(name).update(torch.tensor([float("nan")]))


def test_a_wrong_observer_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'minmax'"):
        make_observer("minmx")


@pytest.mark.parametrize("kind", ["percentile", "entropy", "mse"])
def test_denormal_numbers_are_counted_as_zero(kind: str) -> None:
    observer = make_observer(kind, 99.99)
    observer.update(torch.tensor([0.0, 7e-45, 7e-45]))
    low, high = observer.range()
    assert low == 0.0
    assert 0.0 <= high < 1e-40
