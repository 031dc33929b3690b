"""A comparison as lines for a terminal, as Markdown for a job summary and as JUnit XML."""

from __future__ import annotations

from collections.abc import Sequence

from edge_unet.measure.compare import Comparison, PairResult
from edge_unet.measure.compare_changes import Difference
from edge_unet.measure.compare_ratio import Ratio
from edge_unet.measure.report.junit import Case, suite
from edge_unet.measure.report.markdown import cell, table
from edge_unet.measure.report.tables import Table
from edge_unet.measure.report.wording import milliseconds


def in_lines(comparison: Comparison) -> list[str]:
    """The whole comparison, one fact a line."""
    width = max((len(pair.label) for pair in comparison.pairs), default=0)
    lines = [f"{comparison.method}, {100 * comparison.tolerance:g} % tolerance; intervals hold 95 % of the resamples"]
    for pair in comparison.pairs:
        lines.append(
            f"{pair.label:<{width}}  p50 {milliseconds(pair.base_p50_ns)} -> {milliseconds(pair.new_p50_ns)}, "
            f"{in_figures(pair.p50)}; p90 {in_figures(pair.p90)}: {_verdict(pair)}"
        )
        lines += [f"  {_difference(d)}" for d in pair.changed]
    lines += [
        f"{d.label}: Dice {d.base:.4f} -> {d.new:.4f} ({100 * (d.new - d.base):+.2f} points)" for d in comparison.dice
    ]
    lines += [f"{loss.label}: ACCURACY: {loss.reason}" for loss in comparison.losses]
    lines += [f"machine: {_difference(d)}" for d in comparison.changed]
    lines += [f"only in base: {label}" for label in comparison.only_base]
    lines += [f"only in new: {label}" for label in comparison.only_new]
    return [*lines, *comparison.notes, verdict(comparison)]


def verdict(comparison: Comparison) -> str:
    """The outcome in one sentence."""
    slow, lost = len(comparison.regressions), len(comparison.losses)
    if lost:
        return f"FAILED: accuracy losses: {lost}, latency regressions: {slow}"
    if slow:
        return (
            f"FAILED: {slow} of {len(comparison.pairs)} subjects slower by more than {100 * comparison.tolerance:g} %"
        )
    unclear = sum(pair.verdict == "unclear" for pair in comparison.pairs)
    open_ = f"; {unclear} could not be told: more --repeats, or a quieter machine" if unclear else ""
    return f"passed: no regression in {len(comparison.pairs)} subjects{open_}"


def in_figures(ratio: Ratio) -> str:
    """'1.10x [1.09, 1.11]'."""
    interval = "" if ratio.low is None or ratio.high is None else f" [{ratio.low:.3f}, {ratio.high:.3f}]"
    return f"{ratio.value:.3f}x{interval}"


def render_comparison(comparison: Comparison) -> str:
    """GitHub Markdown for a job summary or a pull request."""
    c = comparison
    lines = [f"## {'✅' if c.passed else '❌'} {cell(verdict(c))}", ""]
    lines += [f"{cell(c.new)} against {cell(c.base)}; {cell(c.method)}.", *_pairs(c)]
    if c.losses:
        lines += ["", "### Accuracy", "", *(f"- **{cell(x.label)}**: {cell(x.reason)}" for x in c.losses)]
    if c.dice:
        rows = tuple((d.label, f"{d.base:.4f}", f"{d.new:.4f}", f"{100 * (d.new - d.base):+.2f}") for d in c.dice)
        lines += ["", *table(Table(("subject", "base Dice", "new Dice", "points"), rows))]
    changes = [(pair.label, d) for pair in c.pairs for d in pair.changed] + [("machine", d) for d in c.changed]
    if changes:
        rows = tuple((where, d.what, d.base, d.new) for where, d in changes)
        lines += ["", "### What changed", "", *table(Table(("where", "what", "base", "new"), rows))]
    alone = [*(f"only in base: {label}" for label in c.only_base), *(f"only in new: {label}" for label in c.only_new)]
    if alone or c.notes:
        lines += ["", *(f"- {cell(line)}" for line in (*alone, *c.notes))]
    return "\n".join(lines) + "\n"


def _pairs(comparison: Comparison) -> list[str]:
    head = ("subject", "base p50", "new p50", "p50 new / base", "p90 new / base", "verdict")
    rows = tuple(
        (
            pair.label, milliseconds(pair.base_p50_ns), milliseconds(pair.new_p50_ns), in_figures(pair.p50),
            in_figures(pair.p90), _verdict(pair),
        )
        for pair in comparison.pairs
    )  # fmt: skip
    return ["", *table(Table(head, rows))] if rows else []


def comparison_junit(comparison: Comparison) -> str:
    """One test case for each pair, one for each accuracy loss; what is in one result only is skipped."""
    cases = [
        Case(
            classname="compare latency",
            name=pair.label,
            seconds=pair.new_p90_ns / 1e9,
            failure=f"{in_figures(pair.p50)}, {pair.words}" if pair.verdict == "regression" else None,
            skipped=pair.words if pair.verdict == "unclear" else None,
            output="\n".join(map(_difference, pair.changed)),
        )
        for pair in comparison.pairs
    ]
    cases += [Case(classname="compare accuracy", name=x.label, failure=x.reason) for x in comparison.losses]
    cases += [Case(classname="compare latency", name=x, skipped="only in base") for x in comparison.only_base]
    cases += [Case(classname="compare latency", name=x, skipped="only in new") for x in comparison.only_new]
    return suite("edge-unet compare", cases, _properties(comparison.changed))


def _properties(changed: Sequence[Difference]) -> list[tuple[str, str]]:
    return [(d.what, f"{d.base} -> {d.new}") for d in changed]


def _verdict(pair: PairResult) -> str:
    return f"REGRESSION, {pair.words}" if pair.verdict == "regression" else pair.words


def _difference(d: Difference) -> str:
    return f"{d.what}: {d.base} -> {d.new}"
