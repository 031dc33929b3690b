"""The report as CSV, one row for each measurement, and as the two files of the common benchmark action."""

from __future__ import annotations

import csv
import io
from typing import Any

from edge_unet.core.files import canonical_json
from edge_unet.core.limits import LimitRow
from edge_unet.core.report import NS_PER_MS, STAGES, BenchReport, EvaluateResult, Measurement, Schedule, VerifyResult
from edge_unet.core.subject import Subject
from edge_unet.measure.compare_ratio import interval_ns

COLUMNS = (
    "bundle", "target", "precision", "scope", "runtime", "artifact_sha256", "on_device", "runs", "warmup_runs",
    "p50_ms", "p90_ms", "p99_ms", "mean_ms", "min_ms", "max_ms", *(f"{stage}_p50_ms" for stage in STAGES),
    "peak_rss_bytes", "energy_mj_per_run", "energy_source", "artifact_bytes", "int8_layers", "float_layers",
    "agreement_share", "dice", "limit_ms", "measured_over_limit", "cpu_model", "threads", "created",
)  # fmt: skip
"""Every name carries its unit. A cell that was not measured is empty."""


def render_csv(report: BenchReport) -> str:
    """One row for each measurement, with a header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for m in report.measurements:
        writer.writerow({name: "" if value is None else value for name, value in _columns(report, m).items()})
    return out.getvalue()


def _columns(report: BenchReport, m: Measurement) -> dict[str, Any]:
    verified, evaluated, limit = verified_of(report, m), evaluated_of(report, m), limit_of(report, m)
    stages = m.stage_ns or {}
    return {
        "bundle": m.bundle, "target": m.target, "precision": m.precision.value, "scope": m.scope,
        "runtime": m.runtime, "artifact_sha256": m.artifact_sha256, "on_device": str(m.on_device).lower(),
        "runs": m.runs, "warmup_runs": m.warmup_runs,
        "p50_ms": _ms(m.p50_ns), "p90_ms": _ms(m.p90_ns), "p99_ms": _ms(m.p99_ns), "mean_ms": _ms(m.mean_ns),
        "min_ms": _ms(min(m.samples_ns)), "max_ms": _ms(max(m.samples_ns)),
        **{f"{stage}_p50_ms": _ms(stages[stage].p50_ns) if stage in stages else None for stage in STAGES},
        "peak_rss_bytes": m.peak_rss_bytes, "energy_mj_per_run": m.energy_mj, "energy_source": m.energy_source,
        "artifact_bytes": None if verified is None else verified.artifact_bytes,
        "int8_layers": None if m.census is None else m.census.int8_layers,
        "float_layers": None if m.census is None else m.census.float_layers,
        "agreement_share": None if verified is None else verified.agreement,
        "dice": None if evaluated is None else evaluated.dice,
        "limit_ms": None if limit is None or m.scope != "model" else _ms(limit.limit_ns),
        "measured_over_limit": None if limit is None or m.scope != "model" else round(m.p50_ns / limit.limit_ns, 4),
        "cpu_model": report.environment.cpu_model, "threads": report.environment.threads, "created": report.created,
    }  # fmt: skip


def render_smaller(report: BenchReport) -> str:
    """Entries of tool customSmallerIsBetter: latency, size and memory."""
    burst = (report.schedule or Schedule()).burst
    entries = []
    for m in report.measurements:
        name = f"{_name(m)} {m.scope}"
        for percent in (90, 99):
            entries.append(_latency_entry(name, percent, m, burst))
        if m.peak_rss_bytes is not None:
            entries.append(_entry(f"{name} peak memory", "bytes", m.peak_rss_bytes, m.runtime))
    for v in report.verified:
        if v.artifact_bytes is not None:
            entries.append(_entry(f"{_name(v)} artifact size", "bytes", v.artifact_bytes, _extra(v)))
    return canonical_json(entries)


def render_bigger(report: BenchReport) -> str:
    """Entries of tool customBiggerIsBetter: Dice, agreement and frames a second."""
    entries = [
        _entry(f"{_name(e.subject)} Dice{f' on {e.data}' if e.data else ''}", "Dice", e.dice, f"{e.images} images")
        for e in report.evaluated if e.subject is not None
    ]  # fmt: skip
    entries += [_entry(f"{_name(v)} agreement", "%", 100 * v.agreement, f"{v.images} images") for v in report.verified]
    entries += [
        _entry(f"{_name(m)} {m.scope} frames a second at p90", "FPS", round(1000 * NS_PER_MS / m.p90_ns, 3), m.runtime)
        for m in report.measurements
    ]
    return canonical_json(entries)


def verified_of(report: BenchReport, subject: Subject) -> VerifyResult | None:
    """The verification of the same artifact on the same target at the same precision."""
    return next((v for v in report.verified if _same(v, subject)), None)


def evaluated_of(report: BenchReport, subject: Subject) -> EvaluateResult | None:
    """Its first evaluation."""
    return next((e for e in report.evaluated if e.subject is not None and _same(e.subject, subject)), None)


def limit_of(report: BenchReport, subject: Subject) -> LimitRow | None:
    """Its limit on this machine."""
    return next((row for row in report.limits if _same(row, subject)), None)


def _same(one: Subject, other: Subject) -> bool:
    return (one.artifact_sha256, one.target, one.precision) == (other.artifact_sha256, other.target, other.precision)


def _ms(value_ns: int) -> float:
    return value_ns / NS_PER_MS


def _name(subject: Subject) -> str:
    return f"{subject.bundle} {subject.label}"


def _extra(subject: Subject) -> str:
    return f"{subject.runtime}, sha256 {subject.artifact_sha256[:12]}"


def _latency_entry(name: str, percent: int, m: Measurement, burst: int) -> dict[str, Any]:
    value = m.p90_ns if percent == 90 else m.p99_ns
    entry = _entry(f"{name} p{percent}", "ms", _ms(value), f"{_extra(m)}, {m.runs} runs")
    found = interval_ns(m.samples_ns, percent, burst=burst)
    return entry if found is None else {**entry, "range": f"{_ms(found[0]):.3f} to {_ms(found[1]):.3f}"}


def _entry(name: str, unit: str, value: float, extra: str) -> dict[str, Any]:
    return {"name": name, "unit": unit, "value": value, "extra": extra}
