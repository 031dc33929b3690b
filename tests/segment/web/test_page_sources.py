"""The page's own tests run, and what they are held against is what this host makes."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess

import cv2
import pytest

from edge_unet.segment.web.page import SOURCE

NPM = shutil.which("npm")
FIXTURES = SOURCE / "tests" / "fixtures"


@pytest.mark.skipif(
    not cv2.__version__.startswith("5."), reason="pixels.json is OpenCV 5's; 4 rounds borders otherwise"
)
def test_the_pixels_that_the_page_must_equal_are_this_hosts() -> None:
    text = runpy.run_path(str(FIXTURES / "write.py"))["text"]()
    assert json.loads(text) == json.loads((FIXTURES / "pixels.json").read_text(encoding="utf-8"))


def test_the_lockfile_pins_every_package_and_names_no_registry() -> None:
    lock = json.loads((SOURCE / "package-lock.json").read_text(encoding="utf-8"))
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert len(packages) > 20
    assert not [name for name, package in packages.items() if "resolved" in package]
    assert not [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")]
    manifest = json.loads((SOURCE / "package.json").read_text(encoding="utf-8"))
    wanted = {**manifest["dependencies"], **manifest["devDependencies"]}
    assert wanted == {name: packages[f"node_modules/{name}"]["version"] for name in wanted}


def test_sources_stay_readable() -> None:
    """At most 400 lines a file and 120 characters a line, as the Python."""
    files = [p for p in SOURCE.rglob("*.ts") if "node_modules" not in p.parts]
    assert len(files) > 20
    assert {p.name for p in files if p.read_text(encoding="utf-8").count("\n") > 400} == set()
    assert [
        f"{p.name}: {line}" for p in files for line in p.read_text(encoding="utf-8").splitlines() if len(line) > 120
    ] == []


@pytest.mark.slow
@pytest.mark.skipif(NPM is None, reason="npm is not installed")
@pytest.mark.skipif(not (SOURCE / "node_modules").is_dir(), reason="npm ci was not run in apps/camera-web")
def test_the_pages_own_tests_pass() -> None:
    assert NPM is not None
    done = subprocess.run([NPM, "test"], cwd=SOURCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"Tests.*?(\d+) passed", re.sub(r"\x1b\[[\d;]*m", "", done.stdout))
    assert passed is not None
    assert int(passed[1]) > 60
