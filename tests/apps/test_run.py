"""apps/run.py: what is there is run, what is not is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from apps_support import ROOT, Ran, write_video

from edge_unet.segment.events import read_events

PROGRAM = ROOT / "apps" / "run.py"


def run(*arguments: str | Path) -> Ran:
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return Ran(subprocess.run(command, capture_output=True, text=True, check=False, timeout=300))


def test_without_any_video_it_says_which_ones_it_wanted(tmp_path: Path) -> None:
    ran = run("--data", tmp_path, "--out", tmp_path / "out")
    assert ran.code == 2
    assert [line.split(":")[0] for line in ran.out.splitlines()] == ["endoscopy", "lanes", "camera"]
    assert ran.err.startswith(f"error: no video below {tmp_path}")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_what_is_there_is_run_with_the_shipped_models_and_anew_each_time(tmp_path: Path) -> None:
    video = tmp_path / "cvc_clinicdb" / "trainval_frames_10fps.mp4"
    video.parent.mkdir()
    write_video(video, list(np.random.default_rng(0).integers(60, 200, (3, 256, 256, 3), np.uint8)))
    out = tmp_path / "out"
    for _ in range(2):
        ran = run("--data", tmp_path, "--out", out, "--frames", "2")
        assert ran.code == 0, ran.err
    assert "lanes: no " in ran.out
    assert {path.name for path in out.iterdir()} == {
        "bundles", "endoscopy.mp4", "endoscopy.jsonl", "endoscopy.html", "camera.mp4", "camera.jsonl", "camera.svg",
    }  # fmt: skip
    assert [event["event"] for event in read_events(out / "endoscopy.jsonl")].count("header") == 1
    assert len((out / "camera.jsonl").read_text().splitlines()) == 2
