"""The whole camera on a real bundle: levels, recordings, results, the plot, and ctrl-C in a process of its own."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Call, fix_hashes
from small_road import Road

from edge_unet.core.errors import UsageError
from edge_unet.frames import read_frame
from edge_unet.segment.camera.levels import open_levels
from edge_unet.segment.camera.loop import run_camera
from edge_unet.segment.camera.options import CameraOptions
from edge_unet.segment.camera.sources import SourceEndedError, SourceUri, open_source

pytest.importorskip("av", reason="the camera extra is not installed")


def frames_in(path: Path) -> list[np.ndarray]:
    source, frames = open_source(SourceUri.parse(str(path))), []
    while True:
        try:
            frames.append(source.read())
        except SourceEndedError:
            source.close()
            return frames


def renamed(bundle: Path, folder: Path, name: str) -> Path:
    """A copy of a bundle under another name, as a prune level has one."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"name": name}))
    return folder


@pytest.fixture
def levels(bundles: dict[str, Path], tmp_path: Path) -> list[Path]:
    """Two "levels" of one network: they are the same network, which is all that the loop can see."""
    return [renamed(bundles["onnx"], tmp_path / f"level{n}", f"discs-L{n}") for n in (1, 2)]


@pytest.mark.parametrize("threads", [1, 2])
def test_opencv_takes_as_many_threads_as_the_runtime(road: Road, levels: list[Path], threads: int) -> None:
    """It takes every core whatever OMP_NUM_THREADS says; after the run it has what it had."""
    seen: list[int] = []
    before = cv2.getNumThreads()
    options = CameraOptions(sink="none", frames=2, threads=threads)
    cv2.setNumThreads(3)
    try:
        run_camera(levels, str(road.data / "val/images"), options, say=lambda _: seen.append(cv2.getNumThreads()))
        assert cv2.getNumThreads() == 3
    finally:
        cv2.setNumThreads(before)
    assert seen[0] == threads, "from the first line, before a frame is resized"


def test_everything_at_once(road: Road, levels: list[Path], call: Call) -> None:
    source = f"file://{road.data / 'val/images'}"
    written = ("--record", "over.mp4", "--record-clean", "clean.mp4", "--results", "rows.jsonl", "--plot", "plot.svg")
    limits = ("--loop", "--frames", "20", "--deadline", "5s", "--alpha", "1")
    done = call("camera", *levels, "--source", source, "--sink", "file://sink.mp4", *written, *limits, "--json")
    assert done.code == 0, done.err
    row = done.value
    assert row["frames"] == 20
    assert row["dropped"] == 0
    assert row["levels"] == {"L1": 0, "L2": 20}
    assert row["deadline"]["held"] == 20
    assert set(row["deadline"]["base_ms"]) == {"L1", "L2"}
    lines = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(1, 21))
    assert {line["level"] for line in lines} == {"L2"}
    assert lines[0]["pixels"] == lines[8]["pixels"], "eight images in a loop"
    assert sum(lines[0]["pixels"].values()) == 64 * 64
    assert lines[0]["pixels"]["foreground"] > 50
    over, clean, sink = (frames_in(Path(name)) for name in ("over.mp4", "clean.mp4", "sink.mp4"))
    assert len(over) == len(clean) == len(sink) == 20
    first = read_frame(sorted((road.data / "val/images").iterdir())[0]).astype(int)
    assert np.abs(clean[0].astype(int) - first).mean() < 12, "the frame as it came"
    assert np.abs(over[0].astype(int) - first).mean() > 20
    assert np.abs(over[0].astype(int) - sink[0].astype(int)).mean() < 2
    drawn = ET.fromstring(Path("plot.svg").read_text())
    text = " ".join(t.text or "" for t in drawn.iter("{http://www.w3.org/2000/svg}text"))
    assert "20 frames, 100.0 % within 5000 ms" in text
    assert "L1" in text
    assert sorted(p.name for p in Path.cwd().iterdir() if p.is_file()) == [
        "clean.mp4", "over.mp4", "plot.svg", "rows.jsonl", "sink.mp4",
    ]  # fmt: skip


def test_a_deadline_that_nothing_keeps_runs_the_cheapest_level(road: Road, levels: list[Path]) -> None:
    options = CameraOptions(sink="none", frames=30, loop=True, deadline_ms=0.001)
    stats = run_camera(levels, str(road.data / "val/images"), options, say=lambda _: None)
    assert (stats.frames, stats.held) == (30, 0)
    assert stats.per_level == [30, 0]


def test_levels_must_be_of_one_network(bundles: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(bundles["onnx"], other)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest["classes"]["names"] = ["background", "polyp"]
    (other / "manifest.json").write_text(json.dumps(manifest))
    fix_hashes(other)
    with (
        pytest.raises(UsageError, match=r"other: its classes are not those of .* edge-unet prune"),
        open_levels([bundles["onnx"], other], threads=1),
    ):
        pass


def test_levels_are_opened_shallow_to_deep(bundles: dict[str, Path]) -> None:
    with open_levels([bundles["cpu"], bundles["onnx"]], threads=1) as opened:
        sizes = [level.segmenter.bundle.manifest.artifact.bytes for level in opened]
        assert [level.name for level in opened] != [""] * 2
        assert len({level.name for level in opened}) == 2
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_whole_files(road: Road, bundles: dict[str, Path], tmp_path: Path, number: int) -> None:
    """In a session of its own, so that nobody else is interrupted."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits "ignore"
    written = ("--record", "out.mp4", "--results", "rows.jsonl")
    command = [
        sys.executable, "-m", "edge_unet.cli", "camera", str(bundles["onnx"]),
        "--source", f"file://{road.data / 'val/images'}", "--sink", "none", "--loop", "--realtime", "--json", *written,
    ]  # fmt: skip
    child = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    signal.signal(signal.SIGINT, before)
    try:
        assert child.stderr is not None
        assert "ctrl-C stops" in child.stderr.readline()
        while not (tmp_path / ".out.partial.mp4").exists() or (tmp_path / ".out.partial.mp4").stat().st_size < 200:
            assert child.poll() is None
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 0
    assert "stopped" in err
    assert "Traceback" not in err
    row = json.loads(out.splitlines()[-1])
    assert row["frames"] >= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.mp4", "rows.jsonl"]
    assert len(frames_in(tmp_path / "out.mp4")) == row["frames"]
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == row["frames"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "rtsp://nowhere/1", "--loop"], "--loop is for files"),
        (["--source", "{images}", "--deadline", "soon"], "--deadline 'soon': expected a positive time"),
        (["--source", "{images}", "--record", "a.mp4", "--record-clean", "a.mp4"], "written twice"),
        (["--source", "{images}", "--record", "{images}/x/000.png/a.mp4"], "cannot write"),
        (["--source", "{images}", "--tiled", "0.25"], "--masks FOLDER"),
        (["--source", "rtsp://nowhere/1", "--tiled", "0.25", "--masks", "m"], "--tiled is for images"),
    ],
)
def test_mistakes(road: Road, bundles: dict[str, Path], call: Call, arguments: list[str], message: str) -> None:
    (Path.cwd() / "x").mkdir()
    (Path.cwd() / "x/000.png").write_text("")
    places = {"images": str(road.data / "val/images")}
    given = [a.replace("{images}/x", "x").format(**places) for a in arguments]
    done = call("camera", bundles["onnx"], "--sink", "none", *given)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert message in done.err
