"""The event log: whole lines only, whatever happens to the file."""

from __future__ import annotations

import base64
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_unet.core.errors import UsageError
from edge_unet.segment.events import EventLog, read_events, thumbnail

WRITER = """
import sys
from pathlib import Path
from edge_unet.segment.events import EventLog
log = EventLog(Path(sys.argv[1]), {"notice": "n"})
print("ready", flush=True)
n = 0
while True:
    log.write("tick", n, n / 25, {"text": "x" * 3000})
    n += 1
"""
LIMITED = """
import resource, signal, sys
from pathlib import Path
from edge_unet.core.errors import UsageError
from edge_unet.segment.events import EventLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = EventLog(Path(sys.argv[1]), {})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for n in range(100):
        log.write("tick", n, 0.0, {"text": "y" * 150})
except UsageError as error:
    print(n, error)
"""


def test_one_object_a_line_with_a_header_for_each_run(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "events.jsonl"
    for run in range(2):
        with EventLog(path, {"notice": "only research", "run": run}) as log:
            log.write("appeared", 7, 0.28049, {"region": 1, "name": "Bögen\n"})
    header, event, second, _ = read_events(path)
    assert header == {"event": "header", "schema_version": 1, "notice": "only research", "run": 0}
    assert event == {"event": "appeared", "frame": 7, "time_s": 0.28, "region": 1, "name": "Bögen\n"}
    assert second["run"] == 1
    assert path.read_bytes().count(b"\n") == 4


def test_half_a_line_of_a_killed_writer_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"header"}\n{"event":"tick","te')
    EventLog(path, {}).close()
    assert [e["event"] for e in read_events(path)] == ["header", "header"]
    path.write_bytes(b"x" * 200_000)  # no newline at all
    EventLog(path, {}).close()
    assert [e["event"] for e in read_events(path)] == ["header"]


def test_a_killed_process_leaves_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    events = read_events(path)  # the kernel may cut the last write short: half a line is no event
    assert len(events) > 1
    assert all(event["event"] in ("header", "tick") for event in events)
    EventLog(path, {}).close()
    assert path.read_bytes().endswith(b"\n")


def test_half_a_line_at_the_end_is_no_event_but_one_in_the_middle_is_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"header"}\n{"event":"ti')
    assert [event["event"] for event in read_events(path)] == ["header"]
    path.write_bytes(b'{"event":"header"}\n{"event":"ti\n{"event":"tick"}\n')
    with pytest.raises(UsageError, match="line 2: not JSON"):
        read_events(path)


def test_a_full_disk_leaves_whole_lines_and_says_so(tmp_path: Path) -> None:
    """A limit on the file's size cuts the write short, as a full disk does."""
    path = tmp_path / "events.jsonl"
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True)
    count, _, message = done.stdout.partition(" ")
    assert "bytes fitted; the log ends with the last whole event" in message
    events = read_events(path)
    assert len(events) == 1 + int(count)
    assert path.read_bytes().endswith(b"\n")


def test_what_is_not_json_is_refused_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventLog(path, {}) as log, pytest.raises(ValueError, match="Out of range"):
        log.write("bad", 0, 0.0, {"radius_m": float("inf")})
    assert len(read_events(path)) == 1


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose a writable --log"):
        EventLog(tmp_path, {})
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"event":"header"}\n[1]\n')
    with pytest.raises(UsageError, match=r"bad.jsonl, line 2: expected an object, received list"):
        read_events(bad)
    bad.write_text("{\n")
    with pytest.raises(UsageError, match=r"line 1: not JSON"):
        read_events(bad)


def test_a_thumbnail_is_a_small_jpeg_of_the_right_colours() -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[:] = (200, 40, 20)
    image = cv2.imdecode(np.frombuffer(base64.b64decode(thumbnail(picture)), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (120, 160, 3)
    assert np.abs(image[60, 80, ::-1].astype(int) - [200, 40, 20]).max() <= 4
    small = cv2.imdecode(np.frombuffer(base64.b64decode(thumbnail(picture[:9, :9])), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (9, 9, 3)
