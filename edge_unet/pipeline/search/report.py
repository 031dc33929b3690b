"""What a search found: the best plan, beside the hand-made ones of the same budget, and how far to believe it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import sqrt
from statistics import mean, median, stdev
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict

from edge_unet.core.machine import Environment
from edge_unet.core.report import percentile_ns
from edge_unet.core.spec import Frozen
from edge_unet.measure.latency import Samples
from edge_unet.models.edge_unet_plan import PLANS, Plan, plan_of
from edge_unet.pipeline.search.probe import work_ns

Outcome = Literal["better", "as good", "hand-made", "no rival"]


class Tried(Frozen):
    """One trained trial."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    number: int
    plan: str
    score: float
    predicted_ns: int
    parameters: int | None = None
    macs: int | None = None
    proxy: float | None = None
    seconds: float | None = None
    shipped: str | None = None


class Measured(Frozen):
    """One plan timed for real, with the other ones in turns."""

    plan: str
    name: str | None
    """Of a shipped plan."""
    predicted_ns: int
    work_ns: int
    """Processor time of an undisturbed run (fifth percentile; several threads: wall clock): what the table predicts."""
    work_p90_ns: int
    p50_ns: int
    p90_ns: int
    runs: int

    @staticmethod
    def of(plan: str, name: str | None, predicted_ns: float, samples: Samples, threads: int) -> Measured:
        """From the raw samples."""
        work, wall = work_ns(samples, threads), samples.total_ns
        return Measured(
            plan=plan,
            name=name,
            predicted_ns=round(predicted_ns),
            work_ns=percentile_ns(work, 5),
            work_p90_ns=percentile_ns(work, 90),
            p50_ns=percentile_ns(wall, 50),
            p90_ns=percentile_ns(wall, 90),
            runs=len(wall),
        )

    def held_ns(self, busy: bool) -> int:
        """What must keep the budget: what the table predicts, so that no plan is trained for nothing. Its p90 is shown
        beside it; on a machine with other work that is the neighbours' figure, not the network's."""
        return self.work_ns if busy else self.p50_ns

    def line(self) -> str:
        """One line for a reader."""
        return (
            f"{self.name or self.plan}: predicted {self.predicted_ns / 1e6:.2f} ms, work {self.work_ns / 1e6:.2f} "
            f"(p90 {self.work_p90_ns / 1e6:.2f}), p50 {self.p50_ns / 1e6:.2f}, p90 {self.p90_ns / 1e6:.2f}"
        )


class Result(Frozen):
    """Everything that search.json holds."""

    schema_version: Literal[1] = 1
    settings: Mapping[str, Any]
    environment: Environment
    looked_at: int
    """Trials in the study, over-budget ones included."""
    tried: tuple[Tried, ...]
    measured: tuple[Measured, ...]
    again: Mapping[str, tuple[float, ...]]
    """Plan -> its scores with fresh seeds."""
    busy: bool
    """The budget was held against processor time."""
    table_rows: int
    table_reference_ns: float
    best: str = ""
    outcome: Outcome = "no rival"
    verdict: str = ""
    score_noise: float | None = None
    """Standard deviation of one training's score over seeds, pooled over the plans that were trained again."""
    rank_correlation: float | None = None
    """Spearman's, of predicted and measured work."""
    median_relative_error: float | None = None
    """Of the prediction against the measured work."""
    proxy_correlation: float | None = None
    """Spearman's, of the proxy and the score."""

    @property
    def best_plan(self) -> Plan:
        """The plan of the verdict."""
        return plan_of(self.best)

    @property
    def budget_ns(self) -> float:
        """The budget."""
        return float(self.settings["budget_ms"]) * 1e6


def choose(result: Result) -> Result:
    """The result with its best plan, its verdict and how well the table predicted.

    The best has the highest mean over the fresh seeds among those whose measured latency keeps the budget: the score
    that made a plan a finalist is not used again, as the highest of many noisy scores is too high.
    """
    means = {plan: mean(scores) for plan, scores in result.again.items()}
    best = max(means, key=lambda plan: means[plan])
    shipped = {row.plan: row.shipped for row in result.tried if row.shipped}
    rival = max((plan for plan in means if plan in shipped), key=lambda plan: means[plan], default=None)
    outcome, verdict = _verdict(result, best, rival, shipped)
    x, y = [r.predicted_ns for r in result.measured], [r.work_ns for r in result.measured]
    proxies = [(row.proxy, row.score) for row in result.tried if row.proxy is not None]
    return result.model_copy(
        update={
            "best": best,
            "outcome": outcome,
            "verdict": verdict,
            "score_noise": pooled_deviation(result.again.values()),
            "rank_correlation": spearman(x, y),
            "median_relative_error": median(abs(a - b) / b for a, b in zip(x, y, strict=True)),
            "proxy_correlation": spearman([p for p, _ in proxies], [s for _, s in proxies]),
        }
    )


def _verdict(result: Result, best: str, rival: str | None, shipped: Mapping[str, str | None]) -> tuple[Outcome, str]:
    """The outcome and one sentence."""
    seeds = len(result.again[best])
    found = f"{best} scores {mean(result.again[best]):.4f} (mean of {seeds} seeds)"
    if rival is None:
        return "no rival", f"{found}; no shipped plan keeps {result.settings['budget_ms']:g} ms"
    theirs = result.again[rival]
    if best == rival:
        others = [mean(scores) for plan, scores in result.again.items() if plan != rival]
        beside = f"; the best other plan scores {max(others):.4f}" if others else ""
        return "hand-made", (
            f"nothing better than {shipped[rival]} was found: {mean(theirs):.4f} (mean of {seeds} seeds){beside}"
        )
    gain = mean(result.again[best]) - mean(theirs)
    noise = noise_of_difference(result.again[best], theirs)
    against = f"{shipped[rival]} {mean(theirs):.4f}"
    if noise is None or gain <= 2 * noise:
        spread = "unknown with one seed" if noise is None else f"{noise:.4f}"
        return "as good", f"{found}, {against}: as good, within the noise (standard error {spread})"
    return "better", f"{found}, {against}: better by {gain:.4f} (standard error {noise:.4f})"


def noise_of_difference(ours: Sequence[float], theirs: Sequence[float]) -> float | None:
    """Standard error of the difference of two means; None where a spread is not known."""
    if min(len(ours), len(theirs)) < 2:
        return None
    return sqrt(stdev(ours) ** 2 / len(ours) + stdev(theirs) ** 2 / len(theirs))


def pooled_deviation(groups: Iterable[Sequence[float]]) -> float | None:
    """Standard deviation within groups; None where no group has two values."""
    known = [group for group in groups if len(group) > 1]
    if not known:
        return None
    squares = sum((value - mean(group)) ** 2 for group in known for value in group)
    return sqrt(squares / sum(len(group) - 1 for group in known))


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Correlation of the ranks; ties share their mean rank. None below three pairs or where one side is constant."""
    if len(x) < 3:
        return None
    a, b = _ranks(x), _ranks(y)
    if not a.std() or not b.std():
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    ordered = np.asarray(values, np.float64)
    return np.array([(ordered < v).sum() + ((ordered == v).sum() - 1) / 2 for v in ordered])


def pareto(result: Result) -> list[Tried]:
    """Trained plans that no other one beats in both predicted latency and score, fastest first."""
    front: list[Tried] = []
    for row in sorted(result.tried, key=lambda row: (row.predicted_ns, -row.score)):
        if not front or row.score > front[-1].score:
            front.append(row)
    return front


def page(result: Result) -> str:
    """search.md."""
    return "\n".join(_page(result)) + "\n"


def _page(result: Result) -> Iterator[str]:
    settings, machine = result.settings, result.settings["machine"]
    budget = f"{'work' if result.busy else 'p50'} {settings['budget_ms']:g} ms"
    yield f"# Search: {settings['target']}, {budget} at {machine['height']}x{machine['width']}"
    yield f"\n{result.verdict}.\n"
    yield (
        f"{machine['cpu']}, {machine['runtime']}, {machine['threads']} thread(s). Score: Dice (several classes: mIoU) "
        f"on the validation split after {settings['epochs']} epochs at height {settings['size']} on "
        f"{settings['images']} images at most, FP32, seed {settings['seed']}. {result.looked_at} plans looked at, "
        f"{len(result.tried)} trained."
    )
    yield "\n## With fresh seeds\n\n|plan|scores|mean|\n|-|-|-|"
    for plan, scores in result.again.items():
        yield f"|{_named(plan)}|{', '.join(f'{s:.4f}' for s in scores)}|{mean(scores):.4f}|"
    if result.score_noise is not None:
        yield f"\nStandard deviation of one training over seeds: {result.score_noise:.4f}."
    yield "\n## Pareto front of the trained plans\n\n|plan|predicted ms|score|M parameters|G MACs|\n|-|-|-|-|-|"
    for row in pareto(result):
        counts = "|".join("" if n is None else f"{n / scale:.2f}" for n, scale in _counts(row))
        yield f"|{_named(row.plan)}|{row.predicted_ns / 1e6:.2f}|{row.score:.4f}|{counts}|"
    yield "\n## Predicted and measured\n\n|plan|predicted ms|work ms|work p90|p50 ms|p90 ms|\n|-|-|-|-|-|-|"
    for one in sorted(result.measured, key=lambda one: one.work_ns):
        taken = (one.predicted_ns, one.work_ns, one.work_p90_ns, one.p50_ns, one.p90_ns)
        yield f"|{_named(one.plan)}|{'|'.join(f'{ns / 1e6:.2f}' for ns in taken)}|"
    yield ""
    if result.rank_correlation is not None and result.median_relative_error is not None:
        yield (
            f"Rank correlation with the work {result.rank_correlation:.3f}, median error "
            f"{result.median_relative_error:.1%} ({result.table_rows} parts measured)."
        )
    if result.proxy_correlation is not None:
        yield f"Rank correlation of NASWOT with the score: {result.proxy_correlation:.2f}."


def _counts(row: Tried) -> tuple[tuple[int | None, float], ...]:
    return (row.parameters, 1e6), (row.macs, 1e9)


def _named(plan: str) -> str:
    """A plan with its shipped name."""
    name = next((name for name, known in PLANS.items() if known == plan_of(plan)), None)
    return f"`{plan}` ({name})" if name else f"`{plan}`"
