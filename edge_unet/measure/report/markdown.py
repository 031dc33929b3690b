"""The report as GitHub Markdown: for a job summary or a pull request."""

from __future__ import annotations

from edge_unet.core.report import BenchReport
from edge_unet.measure.report import tables, view
from edge_unet.measure.report.wording import Names


def render_markdown(report: BenchReport) -> str:
    """Headlines, gates, tables, machine. Pictures and charts are left to the page."""
    names = Names(report)
    lines = [f"# {_cell(report.title)}", ""]
    if report.created:
        lines += [report.created, ""]
    lines += [f"- **{h.value}** {_cell(h.caption)}" for h in view.headlines(report, names)]
    lines += _gates(report, names)
    for title, table in (
        ("Latency, memory, energy", tables.numbers_table(report, names)),
        ("The same mask", tables.agreement_table(report, names)),
        ("Quality", tables.quality_table(report, names)),
    ):
        if table.rows:
            lines += ["", f"## {title}", "", *_table(table)]
    stacks, floats = view.census_stacks(report, names)
    if stacks or floats:
        rows = tuple((s.name, s.totals[0], ", ".join(part.text for part in s.parts), s.detail) for s in stacks)
        lines += [
            "",
            "## Layers by precision",
            "",
            *_table(tables.Table(("artifact", "INT8", "all", "source"), rows)),
            "",
        ]
        lines += [f"- {_cell(line)}" for line in floats]
    lines += ["", "## Machine and protocol", "", tables.protocol_text(report), ""]
    lines += [f"- {_cell(name)}: {_cell(value)}" for name, value in tables.environment_rows(report)]
    lines += ["", *_table(tables.hashes_table(report, names))] if report.measurements or report.verified else []
    lines += ["", *(f"> {_cell(note)}" for note in report.notes)] if report.notes else []
    return "\n".join(lines) + "\n"


def _gates(report: BenchReport, names: Names) -> list[str]:
    found = view.gates(report, names)
    if not found:
        return ["", "Accuracy gates: not measured."]
    lines = ["", "## Gates", ""]
    for gate in found:
        stand_in = f" _{gate.stand_in}_" if gate.stand_in else ""
        lines.append(f"- {'pass' if gate.passed else '**FAIL**'} {_cell(gate.name)}: {gate.limit}{stand_in}")
        lines += [f"  - {_cell(reason)}" for reason in gate.reasons]
    return lines


def _table(table: tables.Table) -> list[str]:
    lines = [table.head, tuple("---" for _ in table.head), *table.rows]
    return [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines]


def _cell(text: str) -> str:
    """One line of text that neither breaks a table nor becomes markup."""
    flat = " ".join(text.replace("\n", "; ").split())
    return flat.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
