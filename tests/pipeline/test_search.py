"""The search: it finds a planted optimum within the budget, goes on where it stopped, and shares one storage."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from small_road import quiet

from edge_unet.core.errors import EdgeUnetError, UsageError
from edge_unet.core.machine import Environment
from edge_unet.measure.latency import Samples
from edge_unet.models.edge_unet_plan import PLANS, Plan, Stage, format_plan, parse_plan
from edge_unet.pipeline.search.report import (
    Measured,
    Result,
    Tried,
    choose,
    noise_of_difference,
    page,
    pareto,
    pooled_deviation,
    spearman,
)
from edge_unet.pipeline.search.space import Space
from edge_unet.pipeline.search.study import (
    Judge,
    Scored,
    enqueue_shipped,
    open_study,
    plan_of_trial,
    run_trials,
    storage_of,
    trained,
)

SETTINGS = {"target": "cpu", "budget_ms": 2.0}
NANO = PLANS["nano"]
START = parse_plan("64x1,64x1,128x1/64,64")


def width_of(plan: Plan) -> int:
    """A toy latency: 1000 ns a channel and block."""
    return sum(stage.channels * stage.blocks for stage in plan.stages) * 1000


def toy(plan: Plan) -> Scored:
    """A toy score with one peak: two blocks everywhere, 64 channels at the stem."""
    distance = sum(abs(stage.blocks - 2) for stage in plan.stages) + abs(plan.stages[0].channels - 64) / 32
    return Scored(1 - distance / 40, {"seconds": 0.0})


JUDGE = Judge(predict_ns=lambda plan, most: float(width_of(plan)), score=toy)


def study_in(folder: Path, seed: int = 0) -> optuna.Study:
    return open_study(storage_of(str(folder / "study.db")), SETTINGS, seed)


def test_shipped_plans_lie_in_the_space() -> None:
    for name, plan in PLANS.items():
        choices = Space().choices(plan)
        assert choices is not None, name
        assert Space().suggest(optuna.trial.FixedTrial(choices)) == plan
    outside = Plan((Stage(40, 1), *NANO.stages[1:]), NANO.steps)
    assert Space().choices(outside) is None
    assert Space(stages=(3, 3)).choices(PLANS["portable-nano"]) is None


def test_the_planted_best_is_found_within_the_budget() -> None:
    """The peak has a score of 1; the hand-made start has less; plans over the budget are never scored."""
    study = open_study(optuna.storages.InMemoryStorage(), SETTINGS, 0)
    enqueue_shipped(study, Space(stages=(3, 3)), {"start": START}, quiet)
    run_trials(study, Space(stages=(3, 3)), JUDGE, budget_ns=1.2e6, trials=60, say=quiet)
    done = trained(study)
    assert plan_of_trial(done[0]) == START
    assert done[0].user_attrs["shipped"] == "start"
    best = max(done, key=lambda trial: trial.value or 0)
    assert (best.value or 0) > (done[0].value or 0) + 0.02
    assert (best.value or 0) >= 0.95
    assert all(trial.user_attrs["predicted_ns"] <= 1.2e6 for trial in done)
    pruned = study.get_trials(states=(optuna.trial.TrialState.PRUNED,))
    assert pruned
    assert all(trial.user_attrs["predicted_ns"] > 1.2e6 for trial in pruned)


def test_going_on_counts_on_and_draws_the_same(tmp_path: Path) -> None:
    """Three trials and then six are the six trials that were drawn in one go."""
    budget = 4e6
    parts = study_in(tmp_path / "parts")
    assert run_trials(parts, Space(), JUDGE, budget_ns=budget, trials=3, say=quiet) == 3
    looked = len(parts.get_trials())
    again = study_in(tmp_path / "parts")
    assert run_trials(again, Space(), JUDGE, budget_ns=budget, trials=3, say=quiet) == 3
    assert len(again.get_trials()) == looked
    assert run_trials(again, Space(), JUDGE, budget_ns=budget, trials=6, say=quiet) == 6
    whole = study_in(tmp_path / "whole")
    run_trials(whole, Space(), JUDGE, budget_ns=budget, trials=6, say=quiet)
    assert [t.user_attrs["plan"] for t in again.get_trials()] == [t.user_attrs["plan"] for t in whole.get_trials()]


def test_another_search_in_the_storage_is_refused(tmp_path: Path) -> None:
    study_in(tmp_path)
    with pytest.raises(UsageError, match=r"its budget_ms is 2.0, this one's 3.0; give another --storage or --out"):
        open_study(storage_of(str(tmp_path / "study.db")), {**SETTINGS, "budget_ms": 3.0}, 0)
    with pytest.raises(UsageError, match=r"--storage nosuch://x: cannot open it"):
        storage_of("nosuch://x")


def test_ctrl_c_costs_the_trial_that_was_running(tmp_path: Path) -> None:
    calls = []

    def interrupted(plan: Plan) -> Scored:
        calls.append(plan)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return toy(plan)

    study = study_in(tmp_path)
    enqueue_shipped(study, Space(), {"nano": NANO, "small": PLANS["small"]}, quiet)
    judge = Judge(predict_ns=JUDGE.predict_ns, score=interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_trials(study, Space(), judge, budget_ns=1e9, trials=3, say=quiet)
    assert [plan_of_trial(t) for t in trained(study_in(tmp_path))] == [NANO]
    again = study_in(tmp_path)
    enqueue_shipped(again, Space(), {"nano": NANO, "small": PLANS["small"]}, quiet)  # the lost one comes again
    run_trials(again, Space(), judge, budget_ns=1e9, trials=2, say=quiet)
    assert [plan_of_trial(t) for t in trained(again)] == [NANO, PLANS["small"]]


def test_a_plan_that_does_not_train_is_no_end(tmp_path: Path) -> None:
    """Divergence prunes one plan; bad data ends the search."""

    def diverges(plan: Plan) -> Scored:
        if plan == NANO:
            raise EdgeUnetError("the loss is nan")
        return toy(plan)

    study = study_in(tmp_path / "a")
    enqueue_shipped(study, Space(), {"nano": NANO}, quiet)
    run_trials(study, Space(), Judge(JUDGE.predict_ns, diverges), budget_ns=1e9, trials=2, say=quiet)
    assert study.get_trials()[0].user_attrs["failed"] == "the loss is nan"

    def no_data(plan: Plan) -> Scored:
        raise UsageError("no data")

    with pytest.raises(UsageError, match="no data"):
        run_trials(study_in(tmp_path / "b"), Space(), Judge(JUDGE.predict_ns, no_data), budget_ns=1e9, trials=2)


def test_a_trial_that_was_taken_away_does_not_end_the_search(tmp_path: Path) -> None:
    """What a process finds that slept longer than the grace period."""
    calls, heard = [], []

    def slept(plan: Plan) -> Scored:
        calls.append(plan)
        if len(calls) == 1:
            study_in(tmp_path).tell(0, state=optuna.trial.TrialState.FAIL)
        return toy(plan)

    study = study_in(tmp_path)
    judge = Judge(JUDGE.predict_ns, slept)
    assert run_trials(study, Space(), judge, budget_ns=1e9, trials=1, say=heard.append) == 1
    assert len(calls) == 2
    assert any("given to another" in line for line in heard)
    assert [trial.number for trial in trained(study)] == [1]


def test_a_plan_that_comes_up_again_is_not_trained_twice(tmp_path: Path) -> None:
    calls = []

    def counted(plan: Plan) -> Scored:
        calls.append(format_plan(plan))
        return toy(plan)

    study = study_in(tmp_path)
    for _ in range(2):
        study.enqueue_trial(Space().choices(NANO) or {})
    run_trials(study, Space(), Judge(JUDGE.predict_ns, counted), budget_ns=1e9, trials=2, say=quiet)
    assert len(calls) == len(set(calls)) == 2
    assert study.get_trials()[1].user_attrs["same_as"] == 0


def test_a_budget_that_nothing_keeps_ends() -> None:
    heard: list[str] = []
    study = open_study(optuna.storages.InMemoryStorage(), SETTINGS, 0)
    assert run_trials(study, Space(), JUDGE, budget_ns=1, trials=1, say=heard.append) == 0
    assert "too few of them keep the budget" in heard[-1]


PROCESS = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
sys.path.insert(0, {pipeline!r})
import test_search as t
def slow(plan):
    time.sleep(0.3)
    return t.toy(plan)
study = t.study_in(Path({folder!r}))
t.run_trials(study, t.Space(), t.Judge(t.JUDGE.predict_ns, slow), budget_ns=1e9, trials=8)
"""


@pytest.mark.slow
def test_two_processes_share_one_storage(tmp_path: Path) -> None:
    """Both train, no plan is trained twice, and together they train what was asked for."""
    study_in(tmp_path)
    here = Path(__file__).resolve().parent
    code = PROCESS.format(tests=str(here.parent), pipeline=str(here), folder=str(tmp_path))
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    lines = [process.communicate(timeout=300)[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert all(lines)
    done = trained(study_in(tmp_path))
    assert 8 <= len(done) <= 9  # the other's last one may still have been running
    assert len({trial.user_attrs["plan"] for trial in done}) == len(done)
    assert sum(map(len, lines)) == len(done)


def samples(ns: int) -> Samples:
    """One run that another process delayed by a second."""
    return Samples("a", ("work",), total_ns=[ns + 1_000_000_000], stage_samples_ns=[(ns + 1000,)])


def result(again: dict[str, tuple[float, ...]]) -> Result:
    nano = format_plan(NANO)
    rows = (
        Tried(number=0, plan=nano, score=0.5, predicted_ns=1_900_000, shipped="nano"),
        Tried(number=1, plan="32x1,64x1,128x1/64,64", score=0.6, predicted_ns=1_500_000),
        Tried(number=2, plan="32x2,64x1,128x1/64,64", score=0.55, predicted_ns=1_600_000),
    )
    return Result(
        settings={
            "target": "cpu", "budget_ms": 2.0, "epochs": 1, "size": 64, "images": 8, "seed": 0,
            "machine": {"cpu": "a", "runtime": "b", "threads": 1, "height": 64, "width": 64},
        },
        environment=Environment(),
        looked_at=9,
        tried=rows,
        measured=tuple(Measured.of(row.plan, None, row.predicted_ns, samples(row.predicted_ns), 1) for row in rows),
        again=again,
        busy=False,
        table_rows=4,
        table_reference_ns=1.0,
    )  # fmt: skip


def test_the_verdict_says_what_was_found() -> None:
    nano, ours = format_plan(NANO), "32x1,64x1,128x1/64,64"
    better = choose(result({nano: (0.50, 0.51, 0.52), ours: (0.60, 0.61, 0.62)}))
    assert (better.outcome, better.best) == ("better", ours)
    assert "better by 0.1000" in better.verdict
    alike = choose(result({nano: (0.50, 0.51, 0.58), ours: (0.50, 0.54, 0.56)}))
    assert (alike.outcome, alike.best) == ("as good", ours)
    worse = choose(result({nano: (0.6, 0.6), ours: (0.5, 0.5)}))
    assert (worse.outcome, worse.best) == ("hand-made", nano)
    assert "nothing better than nano was found" in worse.verdict
    assert choose(result({nano: (0.5,), ours: (0.9,)})).outcome == "as good"  # one seed proves nothing
    assert choose(result({ours: (0.5, 0.6)})).outcome == "no rival"
    assert better.rank_correlation == pytest.approx(1.0)
    assert better.median_relative_error == pytest.approx(1000 / 1_601_000, rel=1e-3)
    text = page(better)
    assert "(nano)" in text
    assert "|`32x1,64x1,128x1/64,64`|0.6000, 0.6100, 0.6200|0.6100|" in text


def test_a_busy_machine_counts_processor_time() -> None:
    row = Measured.of("a", None, 5, samples(7), 1)
    assert (row.work_ns, row.work_p90_ns, row.p90_ns) == (1007, 1007, 1_000_000_007)
    assert (row.held_ns(busy=True), row.held_ns(busy=False)) == (1007, 1_000_000_007)
    assert Measured.of("a", None, 5, samples(7), 2).work_ns == 1_000_000_007  # threads add up: the wall clock


def test_the_budget_holds_the_median_as_the_table_predicts_it() -> None:
    row = Measured(
        plan="a", name=None, predicted_ns=9, work_ns=10, work_p90_ns=15, p50_ns=11, p90_ns=16, runs=64,
    )  # fmt: skip
    assert (row.held_ns(busy=True), row.held_ns(busy=False)) == (10, 11)


def test_the_front_holds_what_nothing_beats() -> None:
    assert [row.number for row in pareto(result({format_plan(NANO): (0.5,)}))] == [1]


def test_ranks_and_noise() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 25]) == pytest.approx(0.8)
    assert spearman([1, 1, 2], [3, 3, 9]) == pytest.approx(1.0)
    assert spearman([1, 2], [1, 2]) is None
    assert noise_of_difference([1.0, 3.0], [2.0, 2.0]) == pytest.approx(1.0)
    assert noise_of_difference([1.0], [2.0, 2.0]) is None
    assert pooled_deviation([(1.0, 3.0), (5.0, 5.0), (9.0,)]) == pytest.approx(1.0)
    assert pooled_deviation([(1.0,)]) is None
    assert parse_plan(format_plan(NANO)) == NANO
