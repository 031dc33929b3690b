"""Parts of the camera, each alone: keys, playback, capture of a frozen camera, statistics, drawing, recordings."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.segment.camera.capture import Capture
from edge_unet.segment.camera.keys import HELP, View, press
from edge_unet.segment.camera.options import CameraOptions
from edge_unet.segment.camera.playback import Looped, Pace
from edge_unet.segment.camera.recording import Results, VideoFile
from edge_unet.segment.camera.sinks import RtspStream, open_sink
from edge_unet.segment.camera.sources import SourceEndedError, SourceUri, open_source
from edge_unet.segment.camera.stats import STAGES, CameraStats, Ring


def flat(value: int, height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    return np.full((height, width, 3), value, np.uint8)


class TestKeys:
    def test_each_key(self) -> None:
        view = View(alpha=0.5)
        assert press(view, "q").quitting
        assert press(view, "\x1b").quitting
        assert press(view, " ").frozen
        assert not press(press(view, " "), " ").frozen
        assert press(view, "s").saving
        assert press(view, "h").helping
        assert not press(press(view, "?"), "h").helping
        assert press(view, "+").alpha == 0.55
        assert press(view, "-").alpha == 0.45

    def test_opacity_ends_at_0_and_1(self) -> None:
        view = View(alpha=0.5)
        for _ in range(30):
            view = press(view, "-")
        assert view.alpha == 0
        for _ in range(60):
            view = press(view, "+")
        assert view.alpha == 1

    def test_levels_go_round_and_back_to_automatic(self) -> None:
        view, seen = View(), []
        for _ in range(5):
            seen.append(view.level)
            view = press(view, "l", levels=3)
        assert seen == [None, 0, 1, 2, None]
        assert press(View(), "l", levels=1).level is None

    @settings(deadline=None)
    @given(st.text(max_size=1))
    def test_an_unknown_key_does_nothing(self, key: str) -> None:
        known = ("q", "\x1b", " ", "s", "h", "?", "+", "=", "-", "l")
        assert key in known or press(View(), key, 4) == View()

    def test_every_key_is_in_the_help(self) -> None:
        text = " ".join(line.split("  ")[0] for line in HELP)
        assert all(key in text for key in ("q", "Esc", "space", "s", "+", "-", "l", "h", "?"))


class Frames:
    """A source of so many frames that counts how often it was closed."""

    def __init__(self, values: list[int], live: bool = False) -> None:
        self.left, self.live, self.fps, self.closed = list(values), live, 25.0, 0

    def read(self) -> NDArray[np.uint8]:
        if not self.left:
            raise SourceEndedError
        return flat(self.left.pop(0))

    def close(self) -> None:
        self.closed += 1


class TestPlayback:
    def test_a_loop_begins_again_and_leaves_nothing_open(self) -> None:
        opened: list[Frames] = []

        def opener() -> Frames:
            opened.append(Frames([1, 2]))
            return opened[-1]

        source = Looped(opener)
        assert [int(source.read()[0, 0, 0]) for _ in range(5)] == [1, 2, 1, 2, 1]
        source.close()
        assert [part.closed for part in opened] == [1, 1, 1]

    def test_a_file_without_a_frame_does_not_loop_for_ever(self) -> None:
        with pytest.raises(SourceEndedError):
            Looped(lambda: Frames([])).read()

    def test_the_rhythm(self) -> None:
        pace = Pace(10)
        assert pace.wait_s(5.0) == 0
        assert pace.wait_s(5.02) == pytest.approx(0.08)
        assert pace.wait_s(5.1) == pytest.approx(0.1)
        assert pace.wait_s(6.0) == 0, "late: at once"
        assert pace.wait_s(6.0) == pytest.approx(0.0)
        assert pace.wait_s(6.0) == pytest.approx(0.1), "no burst makes up for the second that was lost"

    def test_a_file_at_its_own_rate_loses_nothing(self) -> None:
        began = time.monotonic()
        with Capture(lambda: Frames(list(range(6))), realtime=True) as capture:
            seen = [int(frame[0, 0, 0]) for _ in range(6) if (frame := capture.take(1.0)) is not None]
        assert seen == list(range(6))
        assert time.monotonic() - began >= 5 / 25
        assert capture.decode_ns < 30e6, "waiting for the beat is not decoding"

    def test_loop_and_realtime_are_for_files(self) -> None:
        for options, name in ((CameraOptions(loop=True), "--loop"), (CameraOptions(realtime=True), "--realtime")):
            with pytest.raises(UsageError, match=f"{name} is for files"):
                options.check(SourceUri.parse("rtsp://camera/1"))
        with pytest.raises(UsageError, match="written twice"):
            CameraOptions(sink="file://a.mp4", record=Path("a.mp4")).check(SourceUri.parse("0"))


class Hanging(Frames):
    """A camera whose driver hangs after its frames until it is let go."""

    def __init__(self, values: list[int]) -> None:
        super().__init__(values, live=True)
        self.let_go = threading.Event()

    def read(self) -> NDArray[np.uint8]:
        if not self.left:
            self.let_go.wait(20)
            return flat(99)  # a frame of the past, that nobody must see
        return super().read()


def test_a_frozen_camera_comes_back_and_its_late_frame_is_not_shown() -> None:
    opened = [Hanging([1]), Hanging([2]), Hanging([3])]
    waiting = list(opened)
    with Capture(lambda: waiting.pop(0), retries=None, frozen_s=0.2) as capture:
        seen: list[int] = []
        end = time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < end:
            frame = capture.take(0.05)
            seen += [] if frame is None else [int(frame[0, 0, 0])]
        opened[0].let_go.set()
        while not opened[0].closed and time.monotonic() < end:
            time.sleep(0.01)
        late = capture.take(0.05)
        opened[1].let_go.set()
        opened[2].let_go.set()
    assert seen == [1, 2]
    assert opened[0].closed == 1, "the thread that was left behind tidies up"
    assert late is None or late[0, 0, 0] == 3
    assert capture.reopened >= 1


def test_a_camera_that_was_away_for_long_is_waited_for() -> None:
    """Ten times in a row it does not open; `retries=None` does not give up."""
    attempts = [0]

    def opener() -> Frames:
        attempts[0] += 1
        if 1 < attempts[0] < 14:
            raise UsageError("unplugged")
        return Frames([attempts[0]], live=True)

    with Capture(opener, retries=None, retry_s=0.005) as capture:
        seen = []
        end = time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < end:
            frame = capture.take(0.05)
            seen += [] if frame is None else [int(frame[0, 0, 0])]
    assert seen[0] == 1
    assert seen[1] >= 14


class TestStats:
    def test_a_ring_keeps_the_last_rows_in_order(self) -> None:
        ring = Ring(2, size=4)
        assert ring.last().shape == (0, 2)
        for number in range(6):
            ring.append((number, -number))
        assert ring.last()[:, 0].tolist() == [2, 3, 4, 5]
        assert ring.last(2)[:, 1].tolist() == [-4, -5]
        assert ring.count == 6

    def test_counts_and_shares(self) -> None:
        stats = CameraStats(("L1", "L2"), deadline_ms=10)
        for number, infer in enumerate((4, 8, 30, 8)):
            stages = dict.fromkeys(STAGES, 0) | {"infer": infer * 10**6, "draw": 10**6, "wait": 5 * 10**6}
            assert stats.add(stages, number % 2, number * 10**9) == (infer + 1) * 10**6
        stats.seconds = 2.0
        row = stats.row()
        assert row["deadline"]["held"] == 3
        assert row["deadline"]["share"] == 0.75
        assert row["levels"] == {"L1": 2, "L2": 2}
        assert row["fps"] == 2
        assert row["frame"]["p50_ms"] == pytest.approx(9)
        assert row["stages"]["wait"] == {"p50_ms": 5.0, "p90_ms": 5.0, "p99_ms": 5.0}
        assert stats.fps == pytest.approx(4 / ((50 + 4 + 20) / 1e3))
        assert "75.0 % within 10 ms" in stats.summary()

    def test_nothing_measured_is_none(self) -> None:
        row = CameraStats(("one",)).row()
        assert (row["fps"], row["deadline"], row["frame"]["p90_ms"]) == (None, None, None)
        assert CameraStats(("one",)).fps is None
        assert "0 frames" in CameraStats(("one",)).summary()


class TestRecordings:
    def test_a_live_recording_plays_as_long_as_it_took(self, tmp_path: Path) -> None:
        pytest.importorskip("av", reason="the camera extra is not installed")
        sink = VideoFile(tmp_path / "live.mp4", 30, live=True)
        for value in (10, 200, 90):
            sink.show(flat(value))
            time.sleep(0.3)
        sink.close()
        import av

        with av.open(str(tmp_path / "live.mp4")) as container:
            times = [frame.time for frame in container.decode(video=0)]
        assert times == pytest.approx([0, 0.3, 0.6], abs=0.15)

    def test_what_a_power_failure_leaves_still_plays(self, tmp_path: Path) -> None:
        """The recording's process is killed: all but about the last second is there."""
        pytest.importorskip("av", reason="the camera extra is not installed")
        code = (
            "import os, sys, numpy as np; from pathlib import Path\n"
            "from edge_unet.segment.camera.recording import VideoFile\n"
            "sink = VideoFile(Path(sys.argv[1]), 10)\n"
            "rng = np.random.default_rng(0)\n"
            "for n in range(100): sink.show(rng.integers(0, 256, (64, 64, 3)).astype(np.uint8))\n"
            "os._exit(9)\n"
        )
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "cut.mp4")], check=False)
        assert done.returncode == 9
        left = tmp_path / ".cut.partial.mp4"
        assert list(tmp_path.iterdir()) == [left]
        source, frames = open_source(SourceUri.parse(str(left))), 0
        with pytest.raises(SourceEndedError):  # noqa: PT012 - the encoder decides how many there are
            while True:
                source.read()
                frames += 1
        assert frames >= 30

    def test_results_have_their_name_when_they_are_whole(self, tmp_path: Path) -> None:
        results = Results(tmp_path / "deep" / "rows.jsonl")
        results.write({"frame": 1})
        results.write({"frame": 2})
        assert not (tmp_path / "deep" / "rows.jsonl").exists()
        results.close()
        lines = (tmp_path / "deep" / "rows.jsonl").read_text().splitlines()
        assert [json.loads(line)["frame"] for line in lines] == [1, 2]
        (tmp_path / "file").write_text("")
        with pytest.raises(UsageError, match="cannot write"):
            Results(tmp_path / "file" / "rows.jsonl")


LISTEN = """
import sys, av
with av.open(sys.argv[1], options={"rtsp_flags": "listen", "listen_timeout": "20"}) as container:
    for number, frame in enumerate(container.decode(video=0)):
        print(int(frame.to_ndarray(format="rgb24").mean()), flush=True)
        if number == 4:
            break
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TestRtsp:
    def test_no_server_is_one_clear_line_without_the_password(self) -> None:
        pytest.importorskip("av", reason="the camera extra is not installed")
        with pytest.raises(UsageError, match=r"no RTSP server at 127.0.0.1:\d+ .*MediaMTX") as caught:
            open_sink(f"rtsp://me:secret@127.0.0.1:{free_port()}/live", 25)
        assert "secret" not in str(caught.value)

    def test_a_server_that_comes_later_gets_the_stream(self) -> None:
        """libav's own listening server takes the stream and decodes it."""
        pytest.importorskip("av", reason="the camera extra is not installed")
        said: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            sink = open_sink(f"rtsp://127.0.0.1:{port}/live", 25, say=said.append)
        sink.show(flat(120, 64, 96))
        assert isinstance(sink, RtspStream)
        assert sink.lost == 1
        url = f"rtsp://127.0.0.1:{port}/live"
        with subprocess.Popen([sys.executable, "-c", LISTEN, url], stdout=subprocess.PIPE, text=True) as listener:
            end = time.monotonic() + 30
            while listener.poll() is None and time.monotonic() < end:
                sink.show(flat(120, 64, 96))
                time.sleep(0.04)
            sink.close()
            listener.kill()
            out, _ = listener.communicate(timeout=20)
        assert [int(line) for line in out.splitlines()] == pytest.approx([120] * 5, abs=4)

    def test_a_server_that_goes_away_does_not_stop_the_camera(self) -> None:
        pytest.importorskip("av", reason="the camera extra is not installed")
        said: list[str] = []
        with socket.create_server(("127.0.0.1", 0)) as server:
            sink = open_sink(f"rtsp://127.0.0.1:{server.getsockname()[1]}/live", 25, say=said.append)
        for _ in range(3):
            assert sink.show(flat(1))
        sink.close()
        assert isinstance(sink, RtspStream)
        assert sink.lost == 3
        assert len(said) == 1, "told once, not for every picture"
        assert "trying again" in said[0]
