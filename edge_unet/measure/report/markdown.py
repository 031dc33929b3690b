"""The report as GitHub Markdown: for a job summary or a pull request."""

from __future__ import annotations

from edge_unet.core.report import BenchReport
from edge_unet.measure.report import tables, view, view_limits
from edge_unet.measure.report.wording import Names


def render_markdown(report: BenchReport) -> str:
    """Headlines, warnings, gates, tables, machine. Pictures and charts are left to the page."""
    names = Names(report)
    lines = [f"# {cell(report.title)}", ""]
    if report.created:
        lines += [report.created, ""]
    lines += [f"- **{h.value}** {cell(h.caption)}" for h in view.headlines(report, names)]
    warnings = [f"> ⚠️ {cell(line)}" for line in tables.warnings_of(report)]
    lines += ["", *warnings] if warnings else []
    lines += _gates(report, names)
    for title, found in (
        ("Latency, memory, energy", tables.numbers_table(report, names)),
        ("Distance to the machine's limit", view_limits.limits_table(report, names)),
        ("The same mask", tables.agreement_table(report, names)),
        ("Quality", tables.quality_table(report, names)),
    ):
        if found.rows:
            lines += ["", f"## {title}", "", *table(found)]
    lines += _layers(report, names)
    lines += ["", "## Machine and protocol", "", tables.protocol_text(report), ""]
    lines += [f"- {cell(name)}: {cell(value)}" for name, value in tables.environment_rows(report)]
    lines += [f"- {cell(name)}: {cell(value)}" for name, value in view_limits.peaks_rows(report)]
    states = tables.state_table(report)
    lines += ["", *table(states)] if states.rows else []
    lines += ["", *table(tables.hashes_table(report, names))] if report.measurements or report.verified else []
    lines += ["", *(f"> {cell(note)}" for note in report.notes)] if report.notes else []
    return "\n".join(lines) + "\n"


def table(rows: tables.Table) -> list[str]:
    """The lines of a table."""
    lines = [rows.head, tuple("---" for _ in rows.head), *rows.rows]
    return [f"| {' | '.join(cell(text) for text in line)} |" for line in lines]


def cell(text: str) -> str:
    """One line of text that neither breaks a table nor becomes markup."""
    flat = " ".join(text.replace("\n", "; ").split())
    return flat.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _layers(report: BenchReport, names: Names) -> list[str]:
    """Layers by precision, and the slowest ones."""
    lines = []
    stacks, floats = view.census_stacks(report, names)
    if stacks or floats:
        rows = tuple((s.name, s.totals[0], ", ".join(part.text for part in s.parts), s.detail) for s in stacks)
        counted = tables.Table(("artifact", "INT8", "all", "source"), rows)
        lines += ["", "## Layers by precision", "", *(table(counted) if rows else ()), ""]
        lines += [f"- {cell(line)}" for line in floats]
    slowest = view_limits.slowest_layers(view_limits.layer_charts(report, names))
    return [*lines, "", "## Where the time goes", "", *(f"- {cell(line)}" for line in slowest)] if slowest else lines


def _gates(report: BenchReport, names: Names) -> list[str]:
    found = view.gates(report, names)
    if not found:
        return ["", "Accuracy gates: not measured."]
    lines = ["", "## Gates", ""]
    for gate in found:
        stand_in = f" _{gate.stand_in}_" if gate.stand_in else ""
        lines.append(f"- {'pass' if gate.passed else '**FAIL**'} {cell(gate.name)}: {gate.limit}{stand_in}")
        lines += [f"  - {cell(reason)}" for reason in gate.reasons]
    return lines
