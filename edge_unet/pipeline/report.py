"""`edge-unet report`: result files -> a page, Markdown, JSON, JUnit, CSV and the files of the benchmark action."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from edge_unet.core.errors import UsageError, require
from edge_unet.core.files import write_text
from edge_unet.core.machine import Environment
from edge_unet.core.report import BenchReport, read_report
from edge_unet.core.report import write_report as write_json

_ALL_OF = ("measurements", "not_measured", "verified", "evaluated", "pictures", "limits", "layer_times", "notes")
_FIRST_OF = ("created", "schedule", "burst_order", "peaks")


def join(reports: Sequence[BenchReport]) -> BenchReport:
    """Several results of one machine as one. Raises UsageError where their environments are of different ones."""
    first = reports[0]
    for other in reports[1:]:
        if differing := _differing(first.environment, other.environment):
            raise UsageError(
                f"the results come from different machines ({differing[0]}, {differing[1]}); "
                "report each machine on its own"
            )
    update = {name: tuple(value for report in reports for value in getattr(report, name)) for name in _ALL_OF}
    firsts = {name: next((v for r in reports if (v := getattr(r, name))), getattr(first, name)) for name in _FIRST_OF}
    return first.model_copy(update={**update, **firsts, "environment": _machine([r.environment for r in reports])})


def _differing(one: Environment, other: Environment) -> tuple[object, object] | None:
    """The first property that tells two machines apart. A browser does not tell its CPU: then chip and system do."""
    if one.cpu_model != other.cpu_model:
        return one.cpu_model, other.cpu_model
    for name in ("soc", "os"):
        left, right = getattr(one, name), getattr(other, name)
        if None not in (left, right) and left != right:
            return left, right
    return None


def _machine(found: Sequence[Environment]) -> Environment:
    """The first one's, from the first state before to the last one after, with everybody's warnings."""
    first = found[0]
    told = [e.throttled for e in found if e.throttled is not None]
    return first.model_copy(
        update={
            "before": next((e.before for e in found if e.before is not None), None),
            "after": next((e.after for e in reversed(found) if e.after is not None), None),
            "throttled": any(told) if told else None,
            "warnings": tuple(dict.fromkeys(line for e in found for line in e.warnings)),
        }
    )


def write_report(results: Sequence[Path], out: Path) -> dict[str, Path]:
    """Write all forms of the joined results into `out`."""
    return write_forms(join([read_report(path) for path in results]), out)


def write_forms(report: BenchReport, out: Path) -> dict[str, Path]:
    """Every form of one report; the path of each."""
    require("jinja2", "report")
    from edge_unet.measure import report as forms

    written: dict[str, tuple[str, Callable[[BenchReport], str]]] = {
        "html": ("report.html", forms.render_html),
        "markdown": ("report.md", forms.render_markdown),
        "junit": ("report.junit.xml", forms.render_junit),
        "csv": ("report.csv", forms.render_csv),
        "smaller": ("smaller.json", forms.render_smaller),
        "bigger": ("bigger.json", forms.render_bigger),
    }
    texts = {name: render(report) for name, (_, render) in written.items()}
    paths = {name: out / file for name, (file, _) in written.items()}
    for name, text in texts.items():
        write_text(paths[name], text)
    paths["json"] = out / "report.json"
    write_json(paths["json"], report)
    return paths
