"""The gate where the real thing runs: two bundles in turns in one process, one of them with a planted slowdown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from measure.planted import INTERPRETED, TARGET, make_bundle
from measure.slower import slower
from numpy.typing import NDArray

from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import UsageError
from edge_unet.core.protocols import Target
from edge_unet.core.report import Schedule
from edge_unet.measure.bench import Candidate
from edge_unet.measure.compare import PairResult, compare
from edge_unet.measure.compare_run import time_in_turns

QUICK = Schedule(warmup_runs=10, warmup_ns=50_000_000, runs=150, limit_ns=10**10)
Turns = Callable[..., PairResult]


@pytest.fixture(scope="module")
def turns(tmp_path_factory: pytest.TempPathFactory, tiny_canonical: Path, frames_u8: NDArray[np.uint8]) -> Turns:
    """turns(target, repeats) -> the plain bundle against itself on `target`."""
    bundle = make_bundle(tmp_path_factory.mktemp("gate") / "tiny", tiny_canonical, frames_u8)

    def run(target: Target, repeats: int = 3) -> PairResult:
        base, new = time_in_turns(
            Candidate(bundle, TARGET), Candidate(bundle, target), frames_u8[0], repeats=repeats, schedule=QUICK
        )
        (pair,) = compare(base, new, interleaved=True).pairs
        return pair

    return run


@pytest.mark.slow
def test_ten_identical_runs_raise_no_alarm(turns: Turns) -> None:
    found = [turns(TARGET) for _ in range(10)]
    assert [pair.label for pair in found if pair.verdict == "regression"] == []
    assert np.median([pair.p50.value for pair in found]) == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_a_planted_tenth_is_caught(turns: Turns) -> None:
    """On a machine that is busy with other work an interval may be too wide: more repeats then, as a user would."""
    for repeats in (3, 6, 12, 24):
        pair = turns(slower(TARGET, 0.10), repeats)
        if pair.verdict != "unclear":
            break
    assert pair.verdict == "regression"
    assert pair.p50.value == pytest.approx(1.1, abs=0.05)
    assert pair.p50.low is not None
    assert pair.p50.low > 1


def test_both_sides_take_turns_and_the_other_goes_first(
    bundle_of: Callable[..., Bundle], frames_u8: NDArray[np.uint8]
) -> None:
    schedule = Schedule(warmup_runs=1, warmup_ns=0, runs=10, limit_ns=10**10)
    one, two = (Candidate(bundle_of(name=name), TARGET) for name in ("one", "two"))
    base, new = time_in_turns(one, two, frames_u8[0], repeats=2, schedule=schedule)
    assert [m.bundle for m in (*base.measurements, *new.measurements)] == ["two"] * 4  # one name: the caller's choice
    assert [m.runs for m in base.measurements] == [10, 10]
    assert {m.scope for m in new.measurements} == {"model"}
    assert base.measurements != new.measurements
    assert new.burst_order[:2] == ("two planted int8 (new)", "one planted int8 (base)")  # of the second repeat
    assert compare(base, new, interleaved=True).method == "interleaved, 2 repeats"


def test_a_target_without_its_hardware_is_refused(
    bundle_of: Callable[..., Bundle], frames_u8: NDArray[np.uint8]
) -> None:
    candidate = Candidate(bundle_of(), INTERPRETED)
    with pytest.raises(UsageError, match="tiny interpreted int8 cannot be timed here"):
        time_in_turns(candidate, candidate, frames_u8[0])
