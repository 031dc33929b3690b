"""Two results of the same subjects: is the new one slower, and are its masks worse?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from edge_unet.core.artifact import Scope
from edge_unet.core.errors import UsageError
from edge_unet.core.report import BenchReport, EvaluateResult, Measurement, Schedule, VerifyResult
from edge_unet.core.spec import Frozen, Precision
from edge_unet.core.subject import Subject
from edge_unet.measure.compare_changes import Difference, artifact_changes, machine_changes, other_machine
from edge_unet.measure.compare_ratio import Ratio, ratios

TOLERANCE = 0.05
"""How much slower the median may become."""
DICE_LOSS = 0.001
"""A tenth of a point: what verify allows a target against its reference."""
BUCKETS = (1.1, 1.2, 1.3, 1.5, 2.0)
"""Bounds of the words for a ratio: a reader needs to know how bad it is, not its third digit."""

ONE_RUN = (
    "each side is one run: how much one run differs from the next is in no interval here; compare the bundles, which "
    "take turns, or join three results a side with edge-unet report"
)
"""Said where two result files hold every subject once."""

Verdict = Literal["regression", "slower", "same", "faster", "unclear"]
Key = tuple[str, str, Precision, str]


class PairResult(Frozen):
    """One subject in both results."""

    bundle: str
    target: str
    precision: Precision
    scope: Scope
    base_p50_ns: int
    new_p50_ns: int
    base_p90_ns: int
    new_p90_ns: int
    runs: int
    """Counted runs of the new one, all repeats together."""
    p50: Ratio
    p90: Ratio
    verdict: Verdict
    """regression: slower without doubt and by more than the tolerance. slower: without doubt, within it. same: the
    interval holds 1 and ends within the tolerance. unclear: too few bursts, or so much noise that a regression may
    hide in it."""
    words: str
    changed: tuple[Difference, ...] = ()

    @property
    def label(self) -> str:
        """'endoscopy cpu int8 model'."""
        return f"{self.bundle} {self.target} {self.precision.value} {self.scope}"


class DicePair(Frozen):
    """The Dice of one subject in both results, on the same images."""

    label: str
    base: float
    new: float

    @property
    def lost(self) -> bool:
        """Whether more than a tenth of a point is gone."""
        return self.base - self.new > DICE_LOSS


class AccuracyLoss(Frozen):
    """Why the accuracy gate fails for one subject."""

    label: str
    reason: str


class Comparison(Frozen):
    """What `compare` found."""

    schema_version: Literal[1] = 1
    base: str
    """Title of the older result."""
    new: str
    method: str
    """'two result files' or 'interleaved, 3 repeats'."""
    tolerance: float
    pairs: tuple[PairResult, ...]
    dice: tuple[DicePair, ...] = ()
    losses: tuple[AccuracyLoss, ...] = ()
    changed: tuple[Difference, ...] = ()
    """What differs about the machine."""
    only_base: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def regressions(self) -> tuple[PairResult, ...]:
        """The pairs that fail the performance gate."""
        return tuple(pair for pair in self.pairs if pair.verdict == "regression")

    @property
    def passed(self) -> bool:
        """Neither slower nor worse."""
        return not self.regressions and not self.losses

    def row(self) -> dict[str, Any]:
        """The body of `compare --json`."""
        return {
            **self.model_dump(mode="json"),
            "passed": self.passed,
            "regressions": [p.label for p in self.regressions],
        }


def compare(
    base: BenchReport,
    new: BenchReport,
    *,
    tolerance: float = TOLERANCE,
    any_machine: bool = False,
    interleaved: bool = False,
) -> Comparison:
    """Compare every subject that both results hold (same bundle name, target, precision and scope).

    A subject that occurs more than once was repeated. `interleaved`: both results come from one run in which base and
    new took turns. Raises UsageError where the machines differ, unless `any_machine`, and where no subject is in both.
    """
    if not 0 <= tolerance < 10:
        raise UsageError(f"compare: expected a tolerance from 0 to 10 (0.05 is 5 %), received {tolerance:g}")
    if (apart := other_machine(base.environment, new.environment)) and not any_machine:
        words = ", ".join(f"{d.what} {d.base} and {d.new}" for d in apart)
        raise UsageError(f"compare: the results come from different machines ({words}); time both on one machine")
    old, now = _by_key(base.measurements), _by_key(new.measurements)
    common = [key for key in old if key in now]
    dice, notes = _dice(base, new)
    if common and not interleaved and all(len(old[key]) == len(now[key]) == 1 for key in common):
        notes = (ONE_RUN, *notes)
    if not common and not dice:
        raise UsageError(
            f"compare: no subject is in both results; base has {_names(old) or 'none'}, new has {_names(now) or 'none'}"
        )
    return Comparison(
        base=base.title,
        new=new.title,
        method=f"interleaved, {max(map(len, now.values()), default=0)} repeats" if interleaved else "two result files",
        tolerance=tolerance,
        pairs=tuple(_pair(base, new, old[key], now[key], tolerance, interleaved) for key in common),
        dice=dice,
        losses=_losses(new, dice),
        changed=machine_changes(base.environment, new.environment),
        only_base=tuple(_name(key) for key in old if key not in now),
        only_new=tuple(_name(key) for key in now if key not in old),
        notes=notes,
    )


def in_buckets(ratio: Ratio, tolerance: float = TOLERANCE) -> str:
    """'1.1x to 1.2x slower': how a ratio is called."""
    if ratio.low is None or ratio.high is None:
        return "too few runs to tell"
    if not ratio.slower and not ratio.faster:
        noisy = ratio.high > 1 + tolerance
        return f"too noisy to tell, up to {ratio.high:.2f}x slower" if noisy else "no difference shown"
    size, direction = (ratio.value, "slower") if ratio.slower else (1 / ratio.value, "faster")
    below = [bound for bound in BUCKETS if bound <= size]
    above = [bound for bound in BUCKETS if bound > size]
    if not below:
        return f"less than {BUCKETS[0]:g}x {direction}"
    return f"{below[-1]:g}x to {above[0]:g}x {direction}" if above else f"{below[-1]:g}x {direction} or more"


def _by_key(measurements: Sequence[Measurement]) -> dict[Key, list[Measurement]]:
    found: dict[Key, list[Measurement]] = {}
    for m in measurements:
        found.setdefault((m.bundle, m.target, m.precision, m.scope), []).append(m)
    return found


def _name(key: Key) -> str:
    bundle, target, precision, scope = key
    return f"{bundle} {target} {precision.value} {scope}"


def _names(found: Mapping[Key, object]) -> str:
    return ", ".join(map(_name, found))


def _pair(
    base: BenchReport,
    new: BenchReport,
    old: Sequence[Measurement],
    now: Sequence[Measurement],
    tolerance: float,
    interleaved: bool,
) -> PairResult:
    bursts = (base.schedule or Schedule()).burst, (new.schedule or Schedule()).burst
    p50, p90 = ratios(
        [m.samples_ns for m in old], [m.samples_ns for m in now], (50, 90), bursts=bursts, paired=interleaved
    )
    first = now[0]
    return PairResult(
        bundle=first.bundle,
        target=first.target,
        precision=first.precision,
        scope=first.scope,
        base_p50_ns=_middle([m.p50_ns for m in old]),
        new_p50_ns=_middle([m.p50_ns for m in now]),
        base_p90_ns=_middle([m.p90_ns for m in old]),
        new_p90_ns=_middle([m.p90_ns for m in now]),
        runs=sum(m.runs for m in now),
        p50=p50,
        p90=p90,
        verdict=_verdict(p50, tolerance),
        words=in_buckets(p50, tolerance),
        changed=artifact_changes(base, new, old[0], first),
    )


def _middle(values: Sequence[int]) -> int:
    return sorted(values)[(len(values) - 1) // 2]


def _verdict(p50: Ratio, tolerance: float) -> Verdict:
    if p50.high is None:
        return "unclear"
    if p50.slower:
        return "regression" if p50.value > 1 + tolerance else "slower"
    if p50.faster:
        return "faster"
    return "unclear" if p50.high > 1 + tolerance else "same"


Scored = tuple[float, int]
"""A Dice, and on how many images."""


def _dice(base: BenchReport, new: BenchReport) -> tuple[tuple[DicePair, ...], tuple[str, ...]]:
    """The Dice of every subject in both, where it is of the same images; else a note that it was not compared."""
    old, now = _scores(base), _scores(new)
    pairs, notes = [], []
    for label, (before, images) in old.items():
        if label not in now:
            notes.append(f"{label}: Dice not compared, only base has one")
            continue
        after, other_images = now[label]
        if images != other_images:
            notes.append(f"{label}: Dice not compared, it is of {images} and of {other_images} images")
        else:
            pairs.append(DicePair(label=label, base=before, new=after))
    return tuple(pairs), tuple(notes)


def _scores(report: BenchReport) -> dict[str, Scored]:
    """The Dice of each subject and data set: of evaluate, and of verify where there is no other."""
    told: list[EvaluateResult | VerifyResult] = [*report.evaluated, *report.verified]
    found: dict[str, Scored] = {}
    evaluated = {_label(e.subject) for e in report.evaluated if e.subject is not None}
    for result in told:
        if isinstance(result, EvaluateResult):
            if result.subject is not None:
                on = f" on {result.data}" if result.data else ""
                found.setdefault(_label(result.subject) + on, (result.dice, result.images))
        elif result.dice is not None and _label(result) not in evaluated:
            found.setdefault(_label(result), (result.dice, result.images))
    return found


def _label(subject: Subject) -> str:
    return f"{subject.bundle} {subject.label}"


def _losses(new: BenchReport, dice: Sequence[DicePair]) -> tuple[AccuracyLoss, ...]:
    failed = [AccuracyLoss(label=_label(v), reason="; ".join(v.reasons)) for v in new.verified if not v.passed]
    lost = [
        AccuracyLoss(label=d.label, reason=f"Dice {d.base:.4f} -> {d.new:.4f}; {100 * DICE_LOSS:g} points may go")
        for d in dice if d.lost
    ]  # fmt: skip
    return (*failed, *lost)
