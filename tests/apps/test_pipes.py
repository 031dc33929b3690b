"""`app … | head`: a reader that goes away ends an app and a verb without a word; what they write is whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from apps_support import ROOT, bright_bundle, write_video

from edge_unet.segment.events import read_events


def unread(*command: str | Path) -> tuple[int, str]:
    """Exit code and stderr of a program whose stdout nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, *map(str, command)], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_bundle(tmp_path_factory.mktemp("bright"), "bright", size=64)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    frames = np.random.default_rng(0).integers(60, 200, (3, 64, 64, 3), np.uint8)
    return write_video(tmp_path_factory.mktemp("video") / "in.mp4", list(frames))


def test_an_app_ends_quietly(bundle: Path, video: str, tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    program = ROOT / "apps" / "endoscopy" / "endoscopy.py"
    assert unread(program, bundle, "--source", video, "--log", log) == (1, "")
    assert [event["event"] for event in read_events(log)] == ["header"], "it ends with its first line"


def test_an_app_whose_figures_nobody_reads_has_done_its_work(bundle: Path, tmp_path: Path) -> None:
    report, log = tmp_path / "still.html", tmp_path / "events.jsonl"
    video = write_video(tmp_path / "in.mp4", [np.full((540, 960, 3), 80, np.uint8)] * 2)
    calibration = ROOT / "apps" / "lanes" / "calibration.example.toml"
    code, err = unread(
        ROOT / "apps" / "lanes" / "lanes.py", bundle, "--calibration", calibration, "--source", video,
        "--report", report, "--log", log, "--json",
    )  # fmt: skip
    assert (code, "Traceback" in err) == (1, False), err
    assert read_events(log)[-1]["event"] == "ended"
    assert report.read_text().endswith("</html>\n")


@pytest.mark.parametrize("arguments", [("models",), ("doctor", "--json")])
def test_a_verb_ends_quietly(arguments: tuple[str, ...]) -> None:
    assert unread("-m", "edge_unet.cli", *arguments) == (1, "")
