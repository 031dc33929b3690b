"""The camera loop on real files and on sources that stall, fail and end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_unet.core.errors import MissingBackendError, UsageError
from edge_unet.frames import write_png
from edge_unet.segment.camera.capture import Capture
from edge_unet.segment.camera.sinks import open_sink
from edge_unet.segment.camera.sources import AvSource, SourceEndedError, SourceUri, open_source
from edge_unet.segment.colours import in_order


def picture(value: int) -> NDArray[np.uint8]:
    return np.full((16, 24, 3), value, np.uint8)


class Scripted:
    """A source that follows a script: a number is a frame, 'end' ends it, a callable is called first."""

    def __init__(self, script: list[int | str | Callable[[], None]], live: bool) -> None:
        self.script, self.live, self.fps, self.closed = list(script), live, 30.0, False

    def read(self) -> NDArray[np.uint8]:
        while self.script:
            step = self.script.pop(0)
            if callable(step):
                step()
                continue
            if step == "end":
                break
            return picture(int(step))
        raise SourceEndedError

    def close(self) -> None:
        self.closed = True


def test_a_file_loses_no_frame_however_slow_the_reader() -> None:
    source = Scripted([1, 2, 3, 4], live=False)
    with Capture(lambda: source) as capture:
        seen = []
        for _ in range(4):
            time.sleep(0.02)
            frame = capture.take(1.0)
            assert frame is not None
            seen.append(int(frame[0, 0, 0]))
        with pytest.raises(SourceEndedError):
            capture.take(1.0)
    assert seen == [1, 2, 3, 4]
    assert capture.dropped == 0
    assert source.closed


def test_a_live_source_gives_the_newest_frame_and_counts_the_lost_ones() -> None:
    read_all = threading.Event()
    hold = threading.Event()
    source = Scripted([1, 2, 3, read_all.set, lambda: hold.wait(5) and None], live=True)
    with Capture(lambda: source, retries=0) as capture:
        assert read_all.wait(5)
        frame = capture.take(1.0)
        hold.set()
    assert frame is not None
    assert frame[0, 0, 0] == 3
    assert capture.dropped == 2


def test_a_stall_is_none_and_frames_go_on_after_it() -> None:
    release = threading.Event()
    source = Scripted([lambda: release.wait(5) and None, 7], live=True)
    with Capture(lambda: source, retries=0) as capture:
        assert capture.take(0.05) is None
        release.set()
        frame = capture.take(2.0)
    assert frame is not None
    assert frame[0, 0, 0] == 7


def test_a_lost_camera_is_opened_again() -> None:
    sources = [Scripted([1, "end"], live=True), Scripted([2, lambda: time.sleep(0.3), "end"], live=True)]
    opened: list[Scripted] = []

    def opener() -> Scripted:
        if not sources:
            raise UsageError("camera gone")
        opened.append(sources.pop(0))
        return opened[-1]

    with Capture(opener, retries=1, retry_s=0.01) as capture:
        seen = set()
        with pytest.raises(UsageError, match="camera gone"):  # noqa: PT012 - which round ends it is up to the clock
            for _ in range(100):
                frame = capture.take(0.5)
                if frame is not None:
                    seen.add(int(frame[0, 0, 0]))
    assert 2 in seen
    assert capture.reopened == 1
    assert all(s.closed for s in opened)


@pytest.mark.parametrize(
    ("text", "kind", "live"),
    [
        ("0", "index", True),
        ("v4l2:///dev/video1", "v4l2", True),
        ("csi://0", "csi", True),
        ("rtsp://camera/1", "rtsp", True),
    ],
)
def test_uris(text: str, kind: str, live: bool) -> None:
    uri = SourceUri.parse(text)
    assert (uri.kind, uri.live) == (kind, live)


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown source 'ftp://x'"):
        SourceUri.parse("ftp://x")
    with pytest.raises(UsageError, match="no such video"):
        SourceUri.parse("file:///absent.mp4")
    (tmp_path / "cut.mp4").write_bytes(b"not a video")
    with pytest.raises(UsageError, match="cannot open as video"):
        open_source(SourceUri.parse(f"file://{tmp_path}/cut.mp4"))
    with pytest.raises(UsageError, match="no images"):
        open_source(SourceUri.parse(str(tmp_path)))
    with pytest.raises(UsageError, match="unknown sink"):
        open_sink("screen", 25)
    with pytest.raises(UsageError, match="does not open"):
        open_source(SourceUri.parse("v4l2:///dev/video99"))
    with pytest.raises(MissingBackendError, match="GStreamer"):
        open_source(SourceUri.parse("csi://0"))


def test_a_video_file_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    sink = open_sink(f"file://{path}", 25)
    for value in (0, 60, 120, 180, 240):
        assert sink.show(np.full((33, 48, 3), value, np.uint8))
        assert not path.exists(), "the name appears when the file is whole"
    sink.close()
    source = open_source(SourceUri.parse(str(path)))
    assert isinstance(source, AvSource)
    assert source.fps == 25
    values = []
    with pytest.raises(SourceEndedError):  # noqa: PT012 - the encoder decides how many there are
        while True:
            frame = source.read()
            assert frame.shape == (32, 48, 3)
            values.append(int(frame.mean()))
    source.close()
    assert values == pytest.approx([0, 60, 120, 180, 240], abs=3)
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_recording_leaves_no_file(tmp_path: Path) -> None:
    open_sink(f"file://{tmp_path}/none.mp4", 25).close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_images_in_name_order(tmp_path: Path) -> None:
    for name, value in (("b.png", 2), ("a.png", 1)):
        write_png(tmp_path / name, picture(value))
    source = open_source(SourceUri.parse(str(tmp_path)))
    assert [int(source.read()[0, 0, 0]) for _ in range(2)] == [1, 2]
    with pytest.raises(SourceEndedError):
        source.read()


def test_colour_orders() -> None:
    frame = np.array([[[200, 100, 50]]], np.uint8)
    assert in_order(frame, "BGR")[0, 0].tolist() == [50, 100, 200]
    assert in_order(frame, "GRAY")[0, 0].tolist() == [round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)]
