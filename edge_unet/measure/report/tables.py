"""The tables of a report, as strings; page and Markdown show the same ones."""

from __future__ import annotations

from dataclasses import dataclass

from edge_unet.core.report import STAND_IN, BenchReport, VerifyResult
from edge_unet.measure.report.wording import (
    NOT_MEASURED,
    SPACE,
    Names,
    detail_of,
    energy,
    megabytes,
    milliseconds,
    plain,
    score,
    share,
    signed_points,
    yes_no,
)


@dataclass(frozen=True)
class Table:
    """A table; `marks` holds for each row the CSS class of the row ('', 'good', 'bad')."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marks: tuple[str, ...] = ()


def agreement_table(report: BenchReport, names: Names) -> Table:
    """One row for each verified artifact. What follows a line break in a cell is a remark on it."""
    head = (
        "artifact", "agreement", "worst image", "max LSB", "Dice Δ points", "scales", "payloads", "golden masks",
        "gate",
    )  # fmt: skip
    rows = tuple(_agreement_row(v, names) for v in report.verified)
    return Table(head, rows, tuple("good" if v.passed else "bad" for v in report.verified))


def _agreement_row(v: VerifyResult, names: Names) -> tuple[str, ...]:
    near = "" if v.near_zero_pixels is None else f"\n{v.near_zero_pixels} px near zero apart"
    others = "".join(f"\n{share(m.agreement)} with {m.assumption}" for m in v.other_models)
    forced = "" if v.forced_max_lsb is None else f"\n{v.forced_max_lsb} teacher-forced"
    worst = "" if v.worst_agreement == 1 else f"\nno. {v.worst_image}"
    golden = NOT_MEASURED
    if v.golden_images is not None:
        golden = f"{share(v.golden_agreement)}\n{v.golden_equal} of {v.golden_images} equal"
    return (
        f"{names.of(v)}\n{detail_of(v)}", share(v.agreement) + near + others, share(v.worst_agreement) + worst,
        f"{v.max_lsb:.1f}{forced}", signed_points(v.dice_delta), _compared(v.scales_equal, v.scales_compared),
        _compared(v.payloads_equal, v.payloads_compared), golden, "pass" if v.passed else "FAIL",
    )  # fmt: skip


def _compared(equal: bool | None, count: int | None) -> str:
    return "none (float)" if equal is None else f"{count} equal" if equal else f"DIFFER\n{count} compared"


def quality_table(report: BenchReport, names: Names) -> Table:
    """One row for each evaluation."""
    head = ("artifact", "Dice", "IoU", "boundary F1", "images", "IoU by class")
    rows = tuple(
        (
            names.of(e.subject) + ("" if e.subject.on_device else f" ({STAND_IN})") if e.subject else "model",
            score(e.dice), score(e.iou),
            score(e.boundary_f1) + (f" (±{e.boundary_tolerance_px} px)" if e.boundary_f1 is not None else ""),
            str(e.images),
            ", ".join(f"{name} {'absent' if iou is None else f'{iou:.3f}'}" for name, iou in e.per_class.items()),
        )
        for e in report.evaluated
    )  # fmt: skip
    return Table(head, rows)


def numbers_table(report: BenchReport, names: Names) -> Table:
    """Every measurement in full, and what could not be measured."""
    head = ("artifact", "scope", "p50", "p90", "p99", "mean", "runs", "peak memory", "energy a run")
    rows: list[tuple[str, ...]] = [
        (
            names.of(m), m.scope.replace("_", " "), milliseconds(m.p50_ns), milliseconds(m.p90_ns),
            milliseconds(m.p99_ns), milliseconds(m.mean_ns), f"{m.runs} + {m.warmup_runs} warm-up",
            megabytes(m.peak_rss_bytes) if m.scope == "model" else "see model",
            energy(m.energy_mj) + (f" ({m.energy_source})" if m.energy_source else "")
            if m.scope == "model" else "see model",
        )
        for m in report.measurements
    ]  # fmt: skip
    rows += [
        (f"{n.target} {n.precision.value}\n{n.reason}", "model", *[NOT_MEASURED] * (len(head) - 2))
        for n in report.not_measured
    ]
    return Table(head, tuple(rows))


def hashes_table(report: BenchReport, names: Names) -> Table:
    """Each artifact with its bundle and sha256."""
    seen: dict[str, tuple[str, ...]] = {}
    evaluated = [e.subject for e in report.evaluated if e.subject is not None]
    for subject in (*report.measurements, *report.verified, *evaluated):
        seen.setdefault(names.of(subject), (names.of(subject), subject.bundle, subject.artifact_sha256))
    return Table(("artifact", "bundle", "sha256"), tuple(seen.values()))


def environment_rows(report: BenchReport) -> list[tuple[str, str]]:
    """The machine, every field, None spelt out."""
    e = report.environment
    rows = [
        ("reached as", e.device), ("SoC", plain(e.soc)),
        ("CPU", plain(e.cpu_model)), ("instruction set", plain(e.machine)),
        ("AMX INT8", yes_no(e.amx)), ("VNNI", yes_no(e.vnni)), ("bf16", yes_no(e.bf16)),
        ("cores this process may use", plain(e.cores_used)), ("threads given to runtimes", plain(e.threads)),
        ("clock", NOT_MEASURED if e.mhz is None else f"{e.mhz:.0f} MHz"), ("governor", plain(e.governor)),
        ("temperature", NOT_MEASURED if e.temperature_c is None else f"{e.temperature_c:.1f} °C"),
        ("power mode", plain(e.power_mode)), ("clocks lowered for heat", yes_no(e.throttled)),
        ("memory", megabytes(e.memory_bytes)),
        ("system", plain(e.os)), ("kernel", plain(e.kernel)), ("Python", plain(e.python)),
    ]  # fmt: skip
    if e.before is not None or e.after is not None:  # state_table has these
        rows = [row for row in rows if row[0] not in ("clock", "temperature")]
    return rows + sorted(e.packages.items())


def state_table(report: BenchReport) -> Table:
    """Clock and heat before and after the work; no rows where neither was read."""
    states = report.environment.before, report.environment.after
    if states == (None, None):
        return Table(("", "before", "after"), ())
    rows = (
        ("clock", *(_reading(s.mhz if s else None, "MHz") for s in states)),
        ("temperature", *(_reading(s.temperature_c if s else None, "°C", 1) for s in states)),
        ("throttle events since boot", *(_reading(s.throttle_count if s else None) for s in states)),
    )
    return Table(("", "before", "after"), rows)


def warnings_of(report: BenchReport) -> list[str]:
    """What a reader must know about the machine before reading a number."""
    heat = ["the clocks were lowered for heat while this was measured"] if report.environment.throttled else []
    return [*heat, *report.environment.warnings]


def _reading(value: float | None, unit: str = "", digits: int = 0) -> str:
    return NOT_MEASURED if value is None else f"{value:.{digits}f}{SPACE}{unit}".strip()


def protocol_text(report: BenchReport) -> str:
    """The schedule in one sentence, with the first turns as they ran."""
    s = report.schedule
    if s is None:
        return "No latency was measured."
    text = (
        f"Batch 1. Warm-up of at least {s.warmup_runs} runs and {s.warmup_ns / 1e9:g} s, then up to {s.runs} runs or "
        f"{s.limit_ns / 1e9:g} s for each row. Rows take turns in bursts of {s.burst} counted runs after "
        f"{s.discarded} that is not counted. Percentiles are nearest rank over all counted runs; p90 is the headline."
    )
    if report.burst_order:
        first = ", ".join(report.burst_order[: 2 * len(set(report.burst_order))][:8])
        text += f" {len(report.burst_order)} bursts ran in the order: {first}, …"
    return text
