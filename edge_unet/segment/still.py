"""A still report of a run: the pictures worth keeping with what was measured, as one HTML page or one PNG sheet."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.core.files import require_writable, write_text, written_whole
from edge_unet.frames import write_png
from edge_unet.segment.annotate import AMBER, FONT, WHITE, Colour
from edge_unet.segment.events import jpeg

STYLE = """
:root { color-scheme: light dark; --line: #8885; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }
.notice { border-left: .4rem solid #d97706; padding: .4rem 1rem; background: #d9770622; font-weight: 600; }
table { border-collapse: collapse; width: 100%; }
body > table { width: auto; }
th, td { text-align: left; padding: .1rem 1.2rem .1rem 0; border-bottom: 1px solid var(--line); font-weight: 400; }
th { color: GrayText; white-space: nowrap; }
figure th { width: 1%; }
td { overflow-wrap: anywhere; }
figure h2 { font-size: 1.1rem; margin: 0 0 .4rem; }
.stills { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr)); gap: 1.5rem; }
.stills { margin-top: 1.5rem; }
figure { margin: 0; } img { width: 100%; height: auto; border-radius: .3rem; }
"""
SHEET_WIDTH = 640
GROUND = 24


@dataclass(frozen=True, slots=True)
class Still:
    """A picture with a title and what was measured on it, as (name, value) pairs."""

    title: str
    picture: NDArray[np.uint8]  # (H, W, 3) RGB
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class StillReport:
    """A whole report. `notice` stands at its head."""

    title: str
    notice: str
    facts: tuple[tuple[str, str], ...]
    stills: tuple[Still, ...]


def require_report_path(path: Path) -> None:
    """Raise UsageError, before the work, where the report is neither .html nor .png or cannot be written."""
    if path.suffix.lower() not in (".html", ".png"):
        raise UsageError(f"--report {path}: expected a name that ends in .html or .png")
    require_writable(path)


def write_report(path: Path, report: StillReport) -> None:
    """Write a report as the kind that its suffix names, whole or not at all."""
    require_report_path(path)
    if path.suffix.lower() == ".html":
        write_text(path, as_html(report))
        return
    with written_whole(path) as temporary:
        write_png(temporary, as_sheet(report))


def as_html(report: StillReport) -> str:
    """One page that needs no other file."""
    figures = "\n".join(_figure(still) for still in report.stills) or "<p>Nothing was found in this run.</p>"
    title = html.escape(report.title)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
        f'<body><h1>{title}</h1>\n<p class="notice">{html.escape(report.notice)}</p>\n{_table(report.facts)}\n'
        f'<div class="stills">\n{figures}\n</div></body></html>\n'
    )


def _figure(still: Still) -> str:
    data = base64.b64encode(jpeg(still.picture, 88)).decode("ascii")
    title = html.escape(still.title)
    return (
        f'<figure><h2>{title}</h2><img alt="{title}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{_table(still.facts)}</figcaption></figure>"
    )


def _table(facts: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{html.escape(k)}</th><td>{html.escape(v)}</td></tr>' for k, v in facts)
    return f"<table>{rows}</table>"


def as_sheet(report: StillReport) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: the notice, the facts, then the stills two in a row with theirs."""
    head = _text_block([(report.title, WHITE), (report.notice, AMBER), *_lines(report.facts)], SHEET_WIDTH * 2)
    cells = [_cell(still) for still in report.stills]
    rows = []
    for left, right in zip(cells[::2], [*cells[1::2], None], strict=False):
        pair = [left, right if right is not None else np.full_like(left, GROUND)]
        tall = max(cell.shape[0] for cell in pair)
        rows.append(
            np.hstack([np.pad(c, ((0, tall - c.shape[0]), (0, 0), (0, 0)), constant_values=GROUND) for c in pair])
        )
    return np.ascontiguousarray(np.vstack([head, *rows]))


def _cell(still: Still) -> NDArray[np.uint8]:
    height = max(1, round(still.picture.shape[0] * SHEET_WIDTH / still.picture.shape[1]))
    picture = np.asarray(cv2.resize(still.picture, (SHEET_WIDTH, height), interpolation=cv2.INTER_AREA), np.uint8)
    return np.vstack(
        [_text_block([(still.title, WHITE)], SHEET_WIDTH), picture, _text_block(_lines(still.facts), SHEET_WIDTH)]
    )


def _lines(facts: Sequence[tuple[str, str]]) -> list[tuple[str, Colour]]:
    return [(f"{name}: {value}", WHITE) for name, value in facts]


def _text_block(lines: Sequence[tuple[str, Colour]], width: int) -> NDArray[np.uint8]:
    block = np.full((24 * len(lines) + 14, width, 3), GROUND, np.uint8)
    for number, (text, colour) in enumerate(lines, start=1):
        plain = text.encode("ascii", "replace").decode("ascii")  # the drawn font has no more
        cv2.putText(block, plain, (10, 24 * number), FONT, 0.55, colour, 1, cv2.LINE_AA)
    return block
