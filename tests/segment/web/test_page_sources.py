"""The page's own tests run, and what they are held against is what this host makes."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import cv2
import pytest

from edge_unet.segment.web.page import BUILT_FROM, NODE, SOURCE, cannot_build, source_hash

NO_BUILD = cannot_build()
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


def test_the_node_that_is_asked_for_is_the_manifests() -> None:
    manifest = json.loads((SOURCE / "package.json").read_text(encoding="utf-8"))
    assert manifest["engines"] == {"node": f">={NODE[0]}.{NODE[1]}"}


@pytest.mark.parametrize("version", ["v18.20.4", "v20.18.3", "no number"])
def test_an_old_node_is_told_before_it_fails(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("node", "npm"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {version}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert cannot_build() == f"Node here is {version}: install 20.19 or newer"
    (tmp_path / "node").write_text("#!/bin/sh\necho v22.3.0\n", encoding="utf-8")
    assert cannot_build() is None


def test_everything_that_the_page_is_built_from_counts(tmp_path: Path) -> None:
    """Another name, other bytes, a file more: each is another source. What is not built does not count."""
    copy = tmp_path / "source"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("node_modules"))
    first = source_hash(copy)
    assert first == source_hash(SOURCE)
    shutil.rmtree(copy / "tests")
    assert source_hash(copy) == first
    for name in BUILT_FROM:
        path = copy / name
        file = path if path.is_file() else path / "more"
        before = file.read_bytes() if file.exists() else None
        file.write_bytes((before or b"") + b" ")
        assert source_hash(copy) != first, name
        file.unlink() if before is None else file.write_bytes(before)
    assert source_hash(copy) == first


@pytest.mark.slow
@pytest.mark.skipif(NO_BUILD is not None, reason=f"the page's tests cannot run: {NO_BUILD}")
@pytest.mark.skipif(not (SOURCE / "node_modules").is_dir(), reason="npm ci was not run in apps/camera-web")
def test_the_pages_own_tests_pass() -> None:
    done = subprocess.run(
        [shutil.which("npm") or "npm", "test"], cwd=SOURCE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"Tests.*?(\d+) passed", re.sub(r"\x1b\[[\d;]*m", "", done.stdout))
    assert passed is not None
    assert int(passed[1]) > 60
