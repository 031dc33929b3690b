"""report.json as a page and as Markdown. Numbers come from the report alone; nothing is typed by hand."""

from edge_unet.measure.report.html import render_html, write_html
from edge_unet.measure.report.markdown import render_markdown
from edge_unet.measure.report.pictures import make_picture

__all__ = ["make_picture", "render_html", "render_markdown", "write_html"]
