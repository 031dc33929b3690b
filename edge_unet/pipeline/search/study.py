"""The Optuna side of a search: a storage that several machines share, trials that can be repeated, and the budget.

Every trial's random choices come from the search's seed and the trial's number alone, so that a resumed search draws
what it would have drawn. A plan that is over the budget by the latency table is pruned before it is trained.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.trial import FrozenTrial, TrialState

from edge_unet.core.errors import EdgeUnetError, UsageError
from edge_unet.models.edge_unet_plan import PLANS, Plan, format_plan, parse_plan
from edge_unet.models.edge_unet_probes import predictable
from edge_unet.pipeline.search.space import Space

Say = Callable[[str], None]
NAME = "edge-unet-search"
HEARTBEAT_S, GRACE_S = 30, 120
"""A trial whose process has not been heard of for GRACE_S is given to another."""
RETRIES = 2
LOOKS_PER_TRIAL = 60
"""A search ends where it has looked at so many plans for every one it was to train: the budget leaves too few."""
STARTUP = 12
"""Plans drawn at random before the sampler learns from them; the shipped ones come first."""


@dataclass(frozen=True)
class Scored:
    """What a trial measured. `details` are recorded with it."""

    score: float
    details: Mapping[str, Any]


@dataclass(frozen=True)
class Judge:
    """What a search asks about a plan. `predict` may stop early once it is above the budget; `proxy` is optional."""

    predict_ns: Callable[[Plan, float], float]
    score: Callable[[Plan], Scored]
    paper: Callable[[Plan], Mapping[str, Any]] = lambda plan: {}
    """What it costs on paper: parameters, MACs."""
    passes_proxy: Callable[[Plan, dict[str, Any], list[float]], bool] = lambda plan, noted, known: True
    """Writes `proxy` into what is noted; False where it is not worth a training, by the proxies known so far."""


class NumberedSampler(BaseSampler):
    """TPE whose randomness is a function of the seed and the trial's number."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._tpe = self._made(0)

    def _made(self, number: int) -> TPESampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TPESampler(
                n_startup_trials=STARTUP, constant_liar=True, seed=(self.seed * 1_000_003 + number) % 2**32
            )

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """A fresh generator for this trial."""
        self._tpe = self._made(trial.number)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """TPE's own."""
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """TPE's own."""
        return self._tpe.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """TPE's own."""
        return self._tpe.sample_independent(study, trial, param_name, param_distribution)


def storage_of(text: str) -> BaseStorage:
    """The storage of a database URL, or of a path to a SQLite file. Raises UsageError where it cannot be opened."""
    url = text
    if "://" not in text:
        path = Path(text).resolve()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--storage {text}: cannot make its folder: {error.strerror}") from error
        url = f"sqlite:///{path}"
    waits: dict[str, Any] = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # heartbeats are called experimental
            return RDBStorage(
                url,
                engine_kwargs=waits,
                heartbeat_interval=HEARTBEAT_S,
                grace_period=GRACE_S,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(max_retry=RETRIES),
            )
    except Exception as error:  # SQLAlchemy, its driver or Optuna, by what is wrong
        first = str(error).splitlines()[0]
        raise UsageError(f"--storage {text}: cannot open it ({first}); give a file or a URL of SQLAlchemy") from error


def open_study(storage: BaseStorage, settings: Mapping[str, Any], seed: int) -> optuna.Study:
    """The study kept there, or a new one. Raises UsageError where another search is kept there, and says which."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        storage=storage, study_name=NAME, direction="maximize", load_if_exists=True, sampler=NumberedSampler(seed)
    )
    kept = study.user_attrs.get("settings")
    if kept is None:
        study.set_user_attr("settings", json.dumps(dict(settings), sort_keys=True))
        return study
    theirs = json.loads(kept)
    ours = json.loads(json.dumps(dict(settings), sort_keys=True))
    other = [name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name)]
    if other:
        name = other[0]
        raise UsageError(
            f"the storage holds another search: its {name} is {_short(theirs.get(name))}, this one's "
            f"{_short(ours.get(name))}; give another --storage or --out, or the same options to go on"
        )
    return study


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else f"{text[:77]}..."


def trained(study: optuna.Study) -> list[FrozenTrial]:
    """Trials that were trained, in order; a plan that came up again is not among them twice."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return [trial for trial in done if "same_as" not in trial.user_attrs]


def plan_of_trial(trial: FrozenTrial) -> Plan:
    """The plan that a trial recorded."""
    return parse_plan(trial.user_attrs["plan"])


def enqueue_shipped(study: optuna.Study, space: Space, within: Mapping[str, Plan], say: Say = print) -> None:
    """Put the shipped plans that keep the budget at the head of the queue, unless they were trained already."""
    known = {
        trial.user_attrs.get("plan") or format_plan(space.suggest(_Fixed(trial.system_attrs["fixed_params"])))
        for trial in study.get_trials(
            deepcopy=False, states=(TrialState.COMPLETE, TrialState.WAITING, TrialState.RUNNING)
        )
        if "plan" in trial.user_attrs or "fixed_params" in trial.system_attrs
    }
    for name, plan in within.items():
        choices = space.choices(plan)
        if choices is None:
            say(f"{name}: outside the space of this search, not tried")
        elif format_plan(plan) not in known:
            study.enqueue_trial(choices, user_attrs={"shipped": name})


class _Fixed:
    """A chooser that knows the answers."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        self.params = params

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1) -> int:
        """The answer."""
        return int(self.params[name])

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """The answer."""
        return self.params[name]


def run_trials(
    study: optuna.Study, space: Space, judge: Judge, *, budget_ns: float, trials: int, say: Say = print
) -> int:
    """Search until the study holds `trials` trained plans, whoever trained them; returns how many it holds.

    Over-budget plans are pruned. Ctrl-C leaves the study as it is, less the trial that was running.
    """

    def objective(trial: optuna.Trial) -> float:
        plan = space.suggest(trial)
        text = format_plan(plan)
        trial.set_user_attr("plan", text)
        for earlier in trained(study):
            if earlier.user_attrs["plan"] == text:
                trial.set_user_attr("same_as", earlier.number)
                assert earlier.value is not None
                return earlier.value
        return _judged(trial, plan, judge, budget_ns, study, say)

    def enough(study: optuna.Study, trial: FrozenTrial) -> None:
        if len(trained(study)) >= trials:
            study.stop()
        elif len(study.get_trials(deepcopy=False)) >= LOOKS_PER_TRIAL * trials:
            say(f"looked at {LOOKS_PER_TRIAL * trials} plans; too few of them keep the budget")
            study.stop()

    while len(trained(study)) < trials and not _ended(study, objective, enough):
        say("this process was away for so long that its trial was given to another; going on")
    return len(trained(study))


def _ended(
    study: optuna.Study,
    objective: Callable[[optuna.Trial], float],
    callback: Callable[[optuna.Study, FrozenTrial], None],
) -> bool:
    """Run trials until the callback stops them; False where one was taken away while it ran: a machine that sleeps
    sends no heartbeat."""
    try:
        study.optimize(objective, callbacks=[callback])
    except (optuna.exceptions.UpdateFinishedTrialError, ValueError) as error:
        if isinstance(error, ValueError) and not str(error).startswith("Cannot tell a "):
            raise
        return False
    return True


def _judged(trial: optuna.Trial, plan: Plan, judge: Judge, budget_ns: float, study: optuna.Study, say: Say) -> float:
    """The score of a plan within the budget. Raises TrialPruned for one that is over it or does not train."""
    predicted_ns = judge.predict_ns(plan, budget_ns)
    trial.set_user_attr("predicted_ns", round(predicted_ns))
    if predicted_ns > budget_ns:
        raise optuna.TrialPruned("over the budget")
    for name, value in judge.paper(plan).items():
        trial.set_user_attr(name, value)
    noted: dict[str, Any] = {}
    known = [t.user_attrs["proxy"] for t in trained(study) if "proxy" in t.user_attrs]
    passes = judge.passes_proxy(plan, noted, known)
    for name, value in noted.items():
        trial.set_user_attr(name, value)
    if not passes and "shipped" not in trial.user_attrs:
        raise optuna.TrialPruned("below the proxy")
    try:
        scored = judge.score(plan)
    except EdgeUnetError as error:
        if type(error) is not EdgeUnetError:
            raise  # bad data, a missing package: no plan will fare better
        trial.set_user_attr("failed", str(error))
        raise optuna.TrialPruned("did not train") from error
    for name, value in scored.details.items():
        trial.set_user_attr(name, value)
    shipped = trial.user_attrs.get("shipped", "")
    say(
        f"trial {trial.number}: {format_plan(plan)} {shipped and f'({shipped}) '}"
        f"predicted {predicted_ns / 1e6:.2f} ms, score {scored.score:.4f}"
    )
    return scored.score


def shipped_plans(height: int, width: int) -> dict[str, Plan]:
    """The shipped plans that fit frames of this size and whose latency can be predicted."""
    fitting = {}
    for name, plan in PLANS.items():
        stride = 2 ** (len(plan.stages) + 1)
        if height % stride == 0 and width % stride == 0 and predictable(plan):
            fitting[name] = plan
    return fitting
