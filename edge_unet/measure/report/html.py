"""The page: one file with its styles, charts and pictures inside, light or dark as the reader's system is."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from edge_unet.core.errors import require
from edge_unet.core.files import write_text
from edge_unet.core.report import STAND_IN, BenchReport
from edge_unet.measure.report import tables, view, view_limits
from edge_unet.measure.report.wording import Names, share

TEMPLATE = "report.html.j2"


def render_html(report: BenchReport) -> str:
    """The whole page. Raises MissingBackendError where jinja2 is not installed."""
    jinja2 = require("jinja2", "report")
    source = resources.files("edge_unet.measure.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = Names(report)
    census = view.census_stacks(report, names)
    page: str = environment.from_string(source).render(
        report=report,
        headlines=view.headlines(report, names),
        latency=view.latency_bars(report, names),
        stages=view.stage_stacks(report, names),
        front=view.dice_against_latency(report, names),
        roofline=view_limits.roofline(report),
        limits=view_limits.limits_table(report, names),
        peaks=view_limits.peaks_rows(report),
        layer_charts=view_limits.layer_charts(report, names),
        states=tables.state_table(report),
        warnings=tables.warnings_of(report),
        agreement=tables.agreement_table(report, names),
        quality=tables.quality_table(report, names),
        census=census,
        census_kinds={part.kind for stack in census[0] for part in stack.parts},
        numbers=tables.numbers_table(report, names),
        hashes=tables.hashes_table(report, names),
        gates=view.gates(report, names),
        machine=tables.environment_rows(report),
        protocol=tables.protocol_text(report),
        layer_tables=[(names.of(v), v.layers) for v in report.verified if v.layers is not None],
        absent=[(names.of(v), v.absent) for v in report.verified if v.absent],
        stand_ins={name: STAND_IN for v in report.verified if not v.on_device for name in (names.of(v), v.label)},
        mask_order=view.mask_order(report, names),
        share=share,
    )
    return page


def write_html(path: Path, report: BenchReport) -> None:
    """Write the page, whole or not at all."""
    write_text(path, render_html(report))
