"""`edge-unet report`: result files -> report.html, report.md and report.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edge_unet.core.errors import UsageError, require
from edge_unet.core.files import write_text
from edge_unet.core.report import BenchReport, read_report
from edge_unet.core.report import write_report as write_json


def join(reports: Sequence[BenchReport]) -> BenchReport:
    """Several results of one machine as one. Raises UsageError where their environments differ in CPU."""
    first = reports[0]
    for other in reports[1:]:
        if other.environment.cpu_model != first.environment.cpu_model:
            raise UsageError(
                f"the results come from different machines ({first.environment.cpu_model}, "
                f"{other.environment.cpu_model}); report each machine on its own"
            )
    update = {
        name: tuple(value for report in reports for value in getattr(report, name))
        for name in ("measurements", "not_measured", "verified", "evaluated", "pictures", "notes")
    }
    return first.model_copy(update=update)


def write_report(results: Sequence[Path], out: Path) -> dict[str, Path]:
    """Write the three forms of the joined results into `out`."""
    return write_forms(join([read_report(path) for path in results]), out)


def write_forms(report: BenchReport, out: Path) -> dict[str, Path]:
    """HTML, Markdown and JSON of one report."""
    require("jinja2", "report")
    from edge_unet.measure.report import render_markdown, write_html

    paths = {"html": out / "report.html", "markdown": out / "report.md", "json": out / "report.json"}
    write_html(paths["html"], report)
    write_text(paths["markdown"], render_markdown(report))
    write_json(paths["json"], report)
    return paths
