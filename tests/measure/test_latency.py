"""The timing protocol on a clock that the subjects themselves move."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import UsageError
from edge_unet.core.protocols import Session
from edge_unet.core.report import FULL, RAPID, STAGES, Schedule
from edge_unet.core.spec import Tensors
from edge_unet.measure.latency import Timed, end_to_end, measure_latency, model_only

QUICK = Schedule(warmup_runs=2, warmup_ns=0, runs=12, limit_ns=10**12)


class FakeClock:
    """Nanoseconds that pass only when a subject runs."""

    def __init__(self) -> None:
        self.now = 0
        self.ran: list[str] = []

    def __call__(self) -> int:
        return self.now

    def subject(self, label: str, costs: Callable[[int], int]) -> Timed:
        """costs(n) is how long run n of this subject takes."""

        def run() -> tuple[int, ...]:
            self.now += costs(self.ran.count(label))
            self.ran.append(label)
            return ()

        return Timed(label, run)


def test_the_protocol_of_the_design() -> None:
    assert (FULL.warmup_runs, FULL.warmup_ns, FULL.runs, FULL.limit_ns) == (10, 10**9, 1024, 60 * 10**9)
    assert (RAPID.warmup_runs, RAPID.warmup_ns, RAPID.runs, RAPID.limit_ns) == (10, 10**9, 64, 6 * 10**9)
    assert (FULL.burst, FULL.discarded) == (5, 1)


def test_bursts_take_turns_and_their_first_run_is_dropped() -> None:
    clock = FakeClock()
    timing = measure_latency(
        [clock.subject("a", lambda n: 100 + n), clock.subject("b", lambda n: 1000 + n)], QUICK, clock=clock
    )
    assert timing.burst_order == ("a", "b", "a", "b", "a", "b")
    bursts = ["a"] * 6 + ["b"] * 6
    assert clock.ran == ["a", "a", "b", "b", *bursts, *bursts, *["a"] * 3, *["b"] * 3]
    a, b = timing.samples
    # run numbers: 0, 1 warm-up; 2 dropped, 3..7 counted; 8 dropped, 9..13; 14 dropped, 15, 16
    assert a.total_ns == [100 + n for n in (*range(3, 8), *range(9, 14), 15, 16)]
    assert b.total_ns == [1000 + n for n in (*range(3, 8), *range(9, 14), 15, 16)]
    assert (a.warmup_runs, b.warmup_runs) == (2, 2)
    assert a.stage_ns() is None


def test_warm_up_lasts_for_runs_and_for_time() -> None:
    clock = FakeClock()
    schedule = QUICK.model_copy(update={"warmup_runs": 10, "warmup_ns": 1000})
    fast, slow = measure_latency(
        [clock.subject("fast", lambda _: 40), clock.subject("slow", lambda _: 500)], schedule, clock=clock
    ).samples
    assert fast.warmup_runs == 25  # 1000 / 40
    assert slow.warmup_runs == 10


def test_a_slow_subject_stops_at_its_time_and_the_others_go_on() -> None:
    clock = FakeClock()
    schedule = QUICK.model_copy(update={"runs": 100, "limit_ns": 6000})
    timing = measure_latency(
        [clock.subject("fast", lambda _: 10), clock.subject("slow", lambda _: 1000)], schedule, clock=clock
    )
    fast, slow = timing.samples
    assert len(fast.total_ns) == 100
    assert len(slow.total_ns) == 5  # one burst of 6 runs used up its 6000 ns
    assert timing.burst_order[:4] == ("fast", "slow", "fast", "fast")


def test_progress_reaches_one() -> None:
    clock, heard = FakeClock(), []
    measure_latency(
        [clock.subject("a", lambda _: 1)],
        QUICK,
        clock=clock,
        progress=lambda label, share: heard.append((label, share)),
    )
    assert heard == [("a", 5 / 12), ("a", 10 / 12), ("a", 1.0)]


def test_labels_must_differ() -> None:
    subject = Timed("same", lambda: ())
    with pytest.raises(UsageError, match="different labels"):
        measure_latency([subject, subject], QUICK)
    with pytest.raises(UsageError, match="none"):
        measure_latency([], QUICK)


def test_a_slower_session_is_measured_slower(
    bundle_of: Callable[..., Bundle], reference: Session, frames_u8: NDArray[np.uint8]
) -> None:
    class Slower:
        """The reference, delayed by 20 ms."""

        artifact, runtime, census = reference.artifact, "slower", reference.census

        def infer(self, feeds: Tensors) -> Tensors:
            time.sleep(0.02)
            return reference.infer(feeds)

    manifest = bundle_of().manifest
    subjects = [
        model_only("plain", reference, frames_u8[0], manifest.preprocess),
        model_only("slower", Slower(), frames_u8[0], manifest.preprocess),
    ]
    plain, slower = measure_latency(subjects, QUICK).samples
    difference = np.median(slower.total_ns) - np.median(plain.total_ns)
    assert 18_000_000 < difference < 60_000_000


def test_end_to_end_has_four_stages_that_add_up(
    bundle_of: Callable[..., Bundle], reference: Session, frames_u8: NDArray[np.uint8]
) -> None:
    manifest = bundle_of().manifest
    camera = np.repeat(np.repeat(frames_u8[0], 4, axis=0), 5, axis=1)  # (256, 320, 3)
    (samples,) = measure_latency(
        [end_to_end("whole", reference, camera, manifest.preprocess, manifest.classes)], QUICK
    ).samples
    assert samples.stages == STAGES
    stages = samples.stage_ns()
    assert stages is not None
    assert list(stages) == ["preprocess", "infer", "postprocess", "draw"]
    assert all(0 < stage.p50_ns <= stage.p90_ns for stage in stages.values())
    for total, parts in zip(samples.total_ns, samples.stage_samples_ns, strict=True):
        assert sum(parts) <= total
        assert sum(parts) > 0.5 * total
