"""The page in a real browser: nothing wider than a phone, nothing cut off, nothing wrong in the console.

A browser's own window may refuse to be as narrow as a phone, so the page is laid out in a frame of that width; a
script beside it reads the layout and writes it where `chromium --dump-dom` shows it.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from measure.test_report_forms import limited
from measure.test_report_page import BINARY

from edge_unet.core.spec import PreprocessSpec
from edge_unet.measure.report import make_picture, render_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (Debian: apt-get install chromium)"),
]
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0")
HARNESS = """<!doctype html><meta charset="utf-8"><body>
<iframe id="page" style="border:0;width:{width}px;height:{height}px" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const inner = document.getElementById("page").contentDocument;
  const wide = [], cut = [], small = [];
  inner.querySelectorAll("details").forEach(one => {{ one.open = true; }});
  const visible = one => one.getClientRects().length > 0;
  for (const one of inner.body.querySelectorAll("*")) {{
    if (!visible(one) || one.closest("svg")) continue;
    const box = one.getBoundingClientRect();
    const name = one.tagName + "." + one.className + " " + one.textContent.slice(0, 40);
    if (box.right > {width} + 0.5 || box.left < -0.5) wide.push(name);
    if (one.children.length === 0 && one.scrollWidth > one.clientWidth + 1 && one.clientWidth > 0) cut.push(name);
    if (one.matches("nav a, summary") && box.height < 40) small.push(name + " " + box.height);
  }}
  document.body.setAttribute("data-found", JSON.stringify({{
    scroll: inner.scrollingElement.scrollWidth, wide: wide, cut: cut, small: small,
    sections: [...inner.querySelectorAll("section")].filter(visible).map(one => one.id),
    links: [...inner.querySelectorAll("nav a")].filter(a => !inner.querySelector(a.getAttribute("href"))).length,
    font: Math.min(...[...inner.body.querySelectorAll("*")].filter(visible).map(
      one => parseFloat(inner.defaultView.getComputedStyle(one).fontSize))),
    back: inner.defaultView.getComputedStyle(inner.body).backgroundColor,
    ink: inner.defaultView.getComputedStyle(inner.body).color }}));
}});
</script>"""
SECTIONS = [
    "notes", "latency", "stages", "front", "limits", "layers", "gates", "agreement", "census", "quality", "pictures",
    "numbers", "machine", "artifacts",
]  # fmt: skip


def page() -> str:
    """A report with every section, and names as long as runtimes make them."""
    frame = np.zeros((16, 16, 3), np.uint8)
    mask = np.zeros((16, 16), np.uint8)
    picture = make_picture(
        "frame 1", frame, {"cpu int8": mask}, BINARY, PreprocessSpec(height=16, width=16), truth=mask
    )
    report = limited()
    (times,) = report.layer_times
    long = times.layers[0].model_copy(
        update={"name": "image_abcd_acdb_encoder.0.0.body.0.0_fused_with_everything_that_follows" * 2, "time_ns": 10**6}
    )
    return render_html(
        report.model_copy(
            update={
                "title": "a_name_without_any_space_that_is_longer_than_a_phone_is_wide",
                "pictures": (picture,),
                "notes": ("Frames: 32 procedural scenes.",),
                "layer_times": (times.model_copy(update={"layers": (*times.layers, long)}),),
            }
        )
    )


def lay_out(folder: Path, width: int, height: int, *flags: str) -> tuple[dict[str, Any], list[str]]:
    """What the script found, and every line of the console."""
    harness = folder / "harness.html"
    harness.write_text(
        HARNESS.format(width=width, height=height, page=html.escape(page(), quote=True)), encoding="utf-8"
    )
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", *flags, "--window-size=1400,1000",
         "--virtual-time-budget=5000", "--dump-dom", harness.as_uri()],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    found = re.search(r'data-found="([^"]*)"', done.stdout)
    assert found is not None, done.stderr[-2000:]
    value: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return value, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize(("width", "height"), [(390, 844), (320, 640), (1280, 900)])
def test_the_page_fits(tmp_path: Path, width: int, height: int) -> None:
    found, console = lay_out(tmp_path, width, height)
    assert found["scroll"] <= width
    assert found["wide"] == []
    assert found["cut"] == []
    assert found["sections"] == SECTIONS
    assert found["links"] == 0  # none leads nowhere
    assert found["font"] >= 12
    assert console == []
    if width < 720:
        assert found["small"] == []  # what a finger must hit


def test_the_console_is_heard(tmp_path: Path) -> None:
    """The check above can fail: an error of a script is seen."""
    broken = tmp_path / "broken.html"
    broken.write_text("<!doctype html><script>nothing.here()</script>")
    assert CHROMIUM is not None
    done = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", broken.as_uri()],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert any("CONSOLE" in line and "nothing is not defined" in line for line in done.stderr.splitlines())


def luminance(color: str) -> float:
    red, green, blue = (int(v) for v in re.findall(r"\d+", color)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_light_and_dark(tmp_path: Path) -> None:
    light, _ = lay_out(tmp_path, 390, 844, "--blink-settings=preferredColorScheme=1")
    dark, _ = lay_out(tmp_path, 390, 844, "--blink-settings=preferredColorScheme=0")
    assert luminance(light["back"]) > 200 > 80 > luminance(light["ink"])
    assert luminance(dark["back"]) < 60 < 180 < luminance(dark["ink"])
