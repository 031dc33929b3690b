"""BenchReport -> what the page shows, as strings and percentages; the template holds no arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_unet.core.artifact import Census
from edge_unet.core.report import NS_PER_MS, STAGES, STAND_IN, BenchReport, EvaluateResult, Measurement
from edge_unet.core.spec import Precision
from edge_unet.core.subject import Subject
from edge_unet.measure.report import charts
from edge_unet.measure.report.wording import Names, detail_of, milliseconds, score, share

FLOATS = (Precision.FP32, Precision.BF16, Precision.FP16)


@dataclass(frozen=True)
class Headline:
    """One large number and what it is."""

    value: str
    caption: str


@dataclass(frozen=True)
class Bar:
    """One row of the latency chart."""

    name: str
    detail: str
    precision: str
    p50: str
    p90: str
    p50_at: float
    p90_at: float
    path: str
    median_at: float
    p90_spread_at: float
    tail: str


@dataclass(frozen=True)
class Part:
    """One piece of a stacked bar."""

    kind: str
    at: float
    text: str


@dataclass(frozen=True)
class Stack:
    """One stacked bar."""

    name: str
    detail: str
    parts: tuple[Part, ...]
    totals: tuple[str, ...]
    units: tuple[Part, ...] = ()
    """The same, by the runtime's word for the kernel: 'brgconv_avx512_i8: 52 int8'."""


@dataclass(frozen=True)
class Dot:
    """One or more rows at one place of the Dice-against-latency chart."""

    x: float
    y: float
    precision: str
    number: str


@dataclass(frozen=True)
class DotRow:
    """The legend of a dot."""

    number: int
    name: str
    precision: str
    latency: str
    dice: str
    on_front: bool
    """No other row is both faster and better."""


@dataclass(frozen=True)
class Front:
    """The Dice-against-latency chart; `path` joins the rows that no other row beats in both."""

    dots: tuple[Dot, ...]
    marks: tuple[Dot, ...]
    rows: tuple[DotRow, ...]
    x: charts.Axis
    y: charts.Axis
    path: str


@dataclass(frozen=True)
class Gate:
    """One gate with its outcome."""

    name: str
    passed: bool
    limit: str
    reasons: tuple[str, ...]
    offenders: tuple[str, ...]
    stand_in: str


def of_scope(report: BenchReport, scope: str) -> list[Measurement]:
    """The measurements of one scope."""
    return [m for m in report.measurements if m.scope == scope]


def headlines(report: BenchReport, names: Names) -> list[Headline]:
    """Up to five numbers that answer: how fast, how much faster, the same mask, how good."""
    found = []
    model = of_scope(report, "model")
    if model:
        best = min(model, key=lambda m: m.p90_ns)
        found.append(Headline(milliseconds(best.p90_ns), f"p90 of one frame, {names.of(best)}, model only"))
    if (gain := _gain(model, names)) is not None:
        found.append(gain)
    whole = of_scope(report, "end_to_end")
    if whole:
        best = min(whole, key=lambda m: m.p90_ns)
        rate = 1000 * NS_PER_MS / best.p90_ns
        found.append(
            Headline(milliseconds(best.p90_ns), f"p90 frame to overlay, {names.of(best)}: {rate:.0f} frames/s")
        )
    if report.verified:
        worst = min(report.verified, key=lambda v: v.agreement)
        which = f", lowest of {len(report.verified)}" if len(report.verified) > 1 else ""
        caption = f"of pixels as the reference{which} ({names.of(worst)})"
        found.append(Headline(share(worst.agreement), caption))
    quantized = [e for e in report.evaluated if e.subject is not None and e.subject.precision is Precision.INT8]
    if quantized:
        lowest = min(quantized, key=lambda e: e.dice)
        assert lowest.subject is not None
        which = f", lowest INT8 of {len(quantized)}" if len(quantized) > 1 else ""
        caption = f"Dice, {names.of(lowest.subject)}{which}, {lowest.images} images"
        found.append(Headline(score(lowest.dice), caption))
    return found


def _gain(model: Sequence[Measurement], names: Names) -> Headline | None:
    """The fastest INT8 row over the fastest float row of the same target and bundle: not the most flattering pair."""
    for quantized in sorted((m for m in model if m.precision is Precision.INT8), key=lambda m: m.p90_ns):
        floats = [m for m in model if m.target == quantized.target and m.precision in FLOATS]
        floats = [m for m in floats if m.bundle == quantized.bundle] or floats
        if floats:
            fastest = min(floats, key=lambda m: m.p90_ns)
            caption = f"{names.of(quantized)} against {names.of(fastest)}, its fastest float here, p90"
            return Headline(f"{fastest.p90_ns / quantized.p90_ns:.1f}x", caption)
    return None


def latency_bars(report: BenchReport, names: Names) -> tuple[list[Bar], charts.Axis, charts.Axis] | None:
    """The model-only rows, the axis of milliseconds from 0, and the axis of samples over their median."""
    rows = of_scope(report, "model")
    if not rows:
        return None
    axis = charts.zero_axis(max(m.p90_ns for m in rows) / NS_PER_MS)
    spread = charts.spread_axis([m.samples_ns for m in rows])
    bars = [
        Bar(
            name=names.of(m),
            detail=detail_of(m),
            precision=m.precision.value,
            p50=milliseconds(m.p50_ns),
            p90=milliseconds(m.p90_ns),
            p50_at=axis.percent(m.p50_ns / NS_PER_MS),
            p90_at=axis.percent(m.p90_ns / NS_PER_MS),
            path=charts.spread_path(m.samples_ns, spread),
            median_at=spread.percent(1.0),
            p90_spread_at=spread.percent(m.p90_ns / m.p50_ns),
            tail=f"p90 {m.p90_ns / m.p50_ns:.2f}x, p99 {m.p99_ns / m.p50_ns:.2f}x the median",
        )
        for m in rows
    ]
    return bars, axis, spread


def stage_stacks(report: BenchReport, names: Names) -> tuple[list[Stack], charts.Axis] | None:
    """End to end: the medians of the stages, end on end."""
    rows = [m for m in of_scope(report, "end_to_end") if m.stage_ns]
    if not rows:
        return None
    totals = [sum(stage.p50_ns for stage in (m.stage_ns or {}).values()) for m in rows]
    axis = charts.zero_axis(max(totals) / NS_PER_MS)
    stacks = []
    for m in rows:
        parts = tuple(
            Part(kind, axis.percent(stage.p50_ns / NS_PER_MS), milliseconds(stage.p50_ns))
            for kind, stage in sorted((m.stage_ns or {}).items(), key=lambda item: _stage_order(item[0]))
        )
        totals_text = (f"p50 {milliseconds(m.p50_ns)}", f"p90 {milliseconds(m.p90_ns)}")
        stacks.append(Stack(names.of(m), detail_of(m), parts, totals_text))
    return stacks, axis


def _stage_order(kind: str) -> int:
    """JSON objects come back sorted by name; the road has its own order."""
    return STAGES.index(kind) if kind in STAGES else len(STAGES)


def dice_against_latency(report: BenchReport, names: Names) -> Front | None:
    """Rows that have both a Dice and a model-only latency, where there are two or more to compare; dots that would
    cover one another become one."""
    pairs = [(m, e) for m in of_scope(report, "model") if (e := _quality_of(report, m)) is not None]
    if len(pairs) < 2:
        return None
    x = charts.padded_log_axis([m.p90_ns / NS_PER_MS for m, _ in pairs])
    y = charts.padded_axis([e.dice for _, e in pairs], least=0.02)
    best = charts.pareto([(m.p90_ns, e.dice) for m, e in pairs])
    at = [(x.percent(m.p90_ns / NS_PER_MS), y.percent(e.dice)) for m, e in pairs]
    rows = tuple(
        DotRow(n + 1, names.of(m), m.precision.value, milliseconds(m.p90_ns), score(e.dice), n in best)
        for n, (m, e) in enumerate(pairs)
    )
    dots, marks = place_dots([(*place, m.precision.value) for place, (m, _) in zip(at, pairs, strict=True)])
    return Front(dots, marks, rows, x, y, charts.line_path([at[index] for index in best]))


def place_dots(points: Sequence[tuple[float, float, str]]) -> tuple[tuple[Dot, ...], tuple[Dot, ...]]:
    """Numbered dots at (x, y, precision); and marks, without number, where a dot would have covered an earlier one
    and gave it its number instead. A dot of several precisions is 'mixed'."""
    dots: list[Dot] = []
    marks = []
    for number, (x, y, precision) in enumerate(points, start=1):
        near = next((i for i, dot in enumerate(dots) if abs(dot.x - x) < 8 and abs(dot.y - y) < 10), None)
        if near is None:
            dots.append(Dot(x, y, precision, str(number)))
            continue
        marks.append(Dot(x, y, precision, ""))
        dot = dots[near]
        kind = precision if dot.precision == precision else "mixed"
        dots[near] = Dot(dot.x, dot.y, kind, f"{dot.number}, {number}")
    return tuple(dots), tuple(marks)


def _quality_of(report: BenchReport, subject: Subject) -> EvaluateResult | None:
    """The evaluation of the same artifact at the same precision and target, else of the same bytes."""
    same = [
        e for e in report.evaluated
        if e.subject is not None and e.subject.artifact_sha256 == subject.artifact_sha256
        and e.subject.precision is subject.precision
    ]  # fmt: skip
    exact = [e for e in same if e.subject is not None and e.subject.target == subject.target]
    return next(iter(exact or same), None)


def census_stacks(report: BenchReport, names: Names) -> tuple[list[Stack], list[str]]:
    """Layers by precision: a bar for each INT8 artifact, a line of text for each float one; each artifact once."""
    stacks: dict[str, Stack] = {}
    floats: dict[str, str] = {}
    told: list[tuple[Subject, Census | None]] = [(m, m.census) for m in report.measurements]
    told += [(v, v.census) for v in report.verified]
    for subject, census in told:
        name = names.of(subject)
        if census is None or not census.layers or name in stacks or name in floats:
            continue
        counts = census.by_precision()
        order = sorted(counts, key=lambda precision: (precision != "int8", precision))
        parts = tuple(
            Part(precision, round(100 * counts[precision] / len(census.layers), 3), f"{counts[precision]} {precision}")
            for precision in order
        )
        units = units_of(census)
        if subject.precision is not Precision.INT8:
            floats[name] = f"{name}: {', '.join(part.text for part in parts)} ({census.source})"
            continue
        where = "" if subject.on_device else f"; {STAND_IN}"
        total = f"{census.int8_layers} of {len(census.layers)} in INT8"
        stacks[name] = Stack(name, f"said by: {census.source}{where}", parts, (total,), units)
    return list(stacks.values()), list(floats.values())


def units_of(census: Census) -> tuple[Part, ...]:
    """Layers by precision and the runtime's own word for the kernel: INT8 first, then by number."""
    counts: dict[tuple[str, str], int] = {}
    for layer in census.layers:
        key = (layer.precision, layer.unit or "unit not told")
        counts[key] = counts.get(key, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (item[0][0] != "int8", item[0][0], -item[1], item[0][1]))
    return tuple(
        Part(precision, round(100 * count / len(census.layers), 3), f"{unit}: {count} {precision}")
        for (precision, unit), count in ordered
    )


def gates(report: BenchReport, names: Names) -> list[Gate]:
    """The accuracy gate of each verified artifact."""
    return [
        Gate(
            name=names.of(v),
            passed=v.passed,
            limit=f"agreement {share(v.agreement)}, at least {share(v.gate)} asked, {v.images} images",
            reasons=v.reasons,
            offenders=v.offenders,
            stand_in="" if v.on_device else STAND_IN,
        )
        for v in report.verified
    ]


def mask_order(report: BenchReport, names: Names) -> list[str]:
    """Row labels in the order of the tables; JSON objects come back sorted by name."""
    labels = dict.fromkeys(names.of(subject) for subject in (*report.verified, *report.measurements))
    pictured = {label: None for picture in report.pictures for label in picture.masks_png}
    return [*(label for label in labels if label in pictured), *(label for label in pictured if label not in labels)]
