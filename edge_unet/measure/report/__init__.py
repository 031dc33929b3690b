"""report.json in the forms that people and CI read. Numbers come from the report alone; nothing is typed by hand."""

from edge_unet.measure.report.html import render_html, write_html
from edge_unet.measure.report.junit import render_junit
from edge_unet.measure.report.markdown import render_markdown
from edge_unet.measure.report.pictures import make_picture
from edge_unet.measure.report.rows import render_bigger, render_csv, render_smaller

__all__ = [
    "make_picture",
    "render_bigger",
    "render_csv",
    "render_html",
    "render_junit",
    "render_markdown",
    "render_smaller",
    "write_html",
]
