"""The endoscopy app on videos made here: where the disc is, when it comes and goes, what is refused and written."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest
from apps_support import bright_bundle, run_app, write_video
from numpy.typing import NDArray

from edge_unet.segment.events import read_events

NOTICE = "Research use only, not a medical device"
SIZE = 128


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_bundle(tmp_path_factory.mktemp("bright"), "bright", size=SIZE)


def ground(seed: int) -> NDArray[np.uint8]:
    """A textured tissue, different for each seed."""
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.uniform(60, 120, (5, 5, 3)).astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 12, (SIZE, SIZE, 1))
    return np.clip(coarse + grain, 25, 140).astype(np.uint8)


def disc(frame: NDArray[np.uint8], x: int, y: int, radius: int = 16) -> NDArray[np.uint8]:
    """A bright disc, not white: no highlight."""
    drawn = frame.copy()
    cv2.circle(drawn, (x, y), radius, (245, 225, 150), cv2.FILLED)
    grain = np.random.default_rng(x).normal(0, 4, (SIZE, SIZE, 1))
    return np.clip(drawn + grain, 0, 248).astype(np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """0-9 nothing; 10-29 a disc that moves; 30-37 blurred; 38-44 the disc; 45 a cut, another disc; to 59."""
    scene, other = ground(1), ground(5)
    frames = [np.roll(scene, n, axis=1) for n in range(-10, 0)]  # the camera moves: it is not frozen
    frames += [disc(scene, 40 + n, 60) for n in range(20)]
    frames += [np.asarray(cv2.GaussianBlur(disc(scene, 60, 60), (0, 0), 5), np.uint8)] * 8
    frames += [disc(scene, 60 + n, 60) for n in range(7)]
    frames += [disc(other, 90, 90 - n, 12) for n in range(15)]
    noisy = [np.clip(f + np.random.default_rng(n).normal(0, 3, f.shape), 0, 255) for n, f in enumerate(frames)]
    path = tmp_path_factory.mktemp("video") / "in.mp4"
    return write_video(path, [f.astype(np.uint8) for f in noisy])


def test_what_happens_is_logged_when_and_where_it_happens(bundle: Path, video: str, tmp_path: Path) -> None:
    log, out = tmp_path / "events.jsonl", tmp_path / "out.mp4"
    report = tmp_path / "still.html"
    ran = run_app(
        "endoscopy", bundle, "--source", video, "--log", log, "--sink", f"file://{out}", "--report", report, "--json"
    )
    assert ran.code == 0, ran.err
    header, *events = read_events(log)
    assert header["notice"] == NOTICE
    names = [event["event"] for event in events]
    assert names == ["appeared", "refused", "accepted", "reset", "appeared", "ended"]
    appeared, refused, accepted, reset, second, ended = events

    assert appeared["frame"] in (12, 13, 14), "it comes at 10, is steady after 2 frames and shown after 3"
    assert appeared["time_s"] == pytest.approx(appeared["frame"] / 25, abs=0.001)
    x, y = appeared["centroid"]
    assert x == pytest.approx(40 + appeared["frame"] - 10, abs=2.5)
    assert y == pytest.approx(60, abs=1)
    assert appeared["area_pixels"] == pytest.approx(np.pi * 16**2, rel=0.12)
    assert appeared["share"] == pytest.approx(appeared["area_pixels"] / SIZE**2, abs=1e-4)
    small = cv2.imdecode(np.frombuffer(base64.b64decode(appeared["thumbnail_jpeg"]), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (SIZE, SIZE, 3)

    assert (refused["frame"], accepted["frame"]) == (30, 38)
    assert refused["reasons"][0].startswith("blurred (sharpness")
    assert (reset["frame"], reset["why"], reset["gone"]) == (45, "cut", [appeared["region"]])
    assert second["region"] > appeared["region"]
    assert second["centroid"][0] == pytest.approx(90, abs=1.5)
    assert ended["refused"] == 8

    row = ran.value
    assert (row["frames"], row["refused"], row["cuts"], row["regions"]) == (60, 8, 1, 2)
    assert row["notice"] == NOTICE
    stages = row["latency"]["stages"]
    assert set(stages) == {"quality", "model", "steady", "regions", "draw", "log", "sink"}
    assert all(stage["p50_ms"] > 0 for stage in stages.values())
    assert sum(stage["share"] for stage in stages.values()) == pytest.approx(1, abs=0.01)

    page = report.read_text(encoding="utf-8")
    assert NOTICE in page
    assert page.count("<figure>") == 2
    assert "src=" in page
    assert "http" not in page, "one file that needs no other"
    assert out.stat().st_size > 1000


def test_the_outline_does_not_flicker(bundle: Path, tmp_path: Path) -> None:
    """A disc whose brightness crosses the threshold from frame to frame: one region, from first to last."""
    scene = ground(3)
    frames = []
    for n in range(40):
        frame = scene.astype(np.float32)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        cv2.circle(mask, (64, 64), 18, 1, cv2.FILLED)
        frame[mask > 0] = 205 if n % 2 else 184  # undecided is 186
        grain = np.random.default_rng(n).normal(0, 3, (SIZE, SIZE, 1))
        frames.append(np.clip(frame + grain, 0, 249).astype(np.uint8))
    log = tmp_path / "events.jsonl"
    ran = run_app("endoscopy", bundle, "--source", write_video(tmp_path / "in.mp4", frames), "--log", log)
    assert ran.code == 0, ran.err
    assert [e["event"] for e in read_events(log)] == ["header", "appeared", "ended"]


def test_an_ensemble_that_disagrees_is_shown_where_it_disagrees(bundle: Path, tmp_path: Path) -> None:
    """Two levels with other thresholds: between them lies a disc that one sees and the other does not."""
    other = bright_bundle(tmp_path, "stricter", size=SIZE, level=1.3)
    frame = ground(2)
    cv2.circle(frame, (40, 64), 14, (198, 199, 198), cv2.FILLED)  # 1.1: between 0.9 and 1.3
    cv2.circle(frame, (95, 64), 14, (250, 246, 200), cv2.FILLED)
    source = write_video(tmp_path / "in.mp4", [frame] * 2)
    out = tmp_path / "out.mp4"
    plain = ["endoscopy", bundle, "--source", source, "--sink", f"file://{out}"]
    ran = run_app(*plain, "--uncertainty", "--ensemble", other, "--json")  # type: ignore[arg-type]
    assert ran.code == 0, ran.err
    assert "bright x2 onnx int8" in ran.value["model"]
    capture = cv2.VideoCapture(str(out))
    done, picture = capture.read()
    assert done
    factor = picture.shape[0] // SIZE
    before, after = frame[64, 34].astype(int), picture[64 * factor, 34 * factor, ::-1].astype(int)
    assert np.abs(before - after).max() > 25, "heat where they disagree"
    before, after = frame[64, 90].astype(int), picture[64 * factor, 90 * factor, ::-1].astype(int)
    assert np.abs(before - after).max() < 25, "none where they agree"


@pytest.mark.slow
def test_mistakes_are_one_line_and_an_exit_code(bundle: Path, video: str, tmp_path: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(b"not a video")
    large = bright_bundle(tmp_path, "large", size=64)
    cases: list[tuple[list[str | Path], str]] = [
        ([bundle, "--source", "/absent.mp4"], "/absent.mp4: no such video"),
        ([bundle, "--source", cut], "cannot open as video"),
        ([tmp_path, "--source", video], "not a bundle"),
        ([bundle, "--source", video, "--report", "still.pdf"], "ends in .html or .png"),
        ([bundle, "--source", video, "--log", tmp_path], "choose a writable --log"),
        ([bundle, "--source", video, "--class-name", "polyp"], "no class 'polyp' in this bundle; it has bright"),
        ([bundle, "--source", video, "--ensemble", large], "differ from the first bundle's 128x128"),
        ([bundle, "--source", video, "--on", "0.3"], "0 < off < on"),
    ]
    for arguments, message in cases:
        ran = run_app("endoscopy", *arguments)
        assert ran.code == 2, (message, ran.err)
        assert message in ran.err
        assert ran.err.startswith("error: ")
        assert ran.err.count("\n") == 1, ran.err


def test_a_video_that_is_cut_off_ends_the_run_in_order(bundle: Path, tmp_path: Path) -> None:
    source = tmp_path / "cut.mkv"
    import av

    with av.open(str(source), "w", format="matroska") as container:  # a container that can be cut
        stream = container.add_stream("libx264", rate=25, options={"g": "5"})
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        for n in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(disc(ground(1), 40 + n, 60), format="rgb24")))
        container.mux(stream.encode())
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 2 // 3])
    report = tmp_path / "still.png"
    ran = run_app("endoscopy", bundle, "--source", source, "--report", report, "--json")
    assert ran.code == 0, ran.err
    assert 5 < ran.value["frames"] < 30
    sheet = cv2.imread(str(report))
    assert sheet.shape[1] == 1280
