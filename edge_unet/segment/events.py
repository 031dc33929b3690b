"""An event log: JSON Lines, one object a line, each written whole or not at all.

A line goes out in one write in append mode. If the program is killed or the disk is full, what stands in the file is
whole lines; half a line that another program left behind is cut off on opening.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError

SCHEMA_VERSION = 1
THUMBNAIL_WIDTH = 160


class EventLog:
    """Appends events to a file. Opening writes a header line: one run, one header. A context manager."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}; choose a writable --log") from error
        _cut_half_line(self._file)
        self._put({"event": "header", "schema_version": SCHEMA_VERSION, **header})

    def write(self, event: str, frame: int, time_s: float, data: Mapping[str, Any]) -> None:
        """Append one event of frame number `frame`, `time_s` seconds into the source.

        Raises UsageError where the line cannot be written; the file is then as before.
        """
        self._put({"event": event, "frame": frame, "time_s": round(time_s, 3), **data})

    def _put(self, value: Mapping[str, Any]) -> None:
        line = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode() + b"\n"
        before = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
            reason = f"{written} of {len(line)} bytes fitted"
        except OSError as error:
            written, reason = 0, error.strerror or str(error)
        if written != len(line):
            os.ftruncate(self._file, before)
            raise UsageError(f"cannot write {self.path}: {reason}; the log ends with the last whole event")

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _cut_half_line(file: int) -> None:
    """Truncate an opened log behind its last newline."""
    end = os.fstat(file).st_size
    position = end
    while position > 0:
        start = max(0, position - 65536)
        block = os.pread(file, position - start, start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    if position != end:
        os.ftruncate(file, position)


def read_events(path: Path) -> list[dict[str, Any]]:
    """Every whole event of a log; half a line at its end, of a writer that was killed, is passed over.

    Raises UsageError naming the line that is no JSON object.
    """
    events = []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1].decode("utf-8")
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            event = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}, line {number}: not JSON ({error})") from error
        if not isinstance(event, dict):
            raise UsageError(f"{path}, line {number}: expected an object, received {type(event).__name__}")
        events.append(event)
    return events


def thumbnail(picture: NDArray[np.uint8], width: int = THUMBNAIL_WIDTH) -> str:
    """(H, W, 3) RGB -> a JPEG at most `width` pixels wide, in base64."""
    if picture.shape[1] > width:
        height = max(1, round(picture.shape[0] * width / picture.shape[1]))
        picture = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    return base64.b64encode(jpeg(picture, 80)).decode("ascii")


def jpeg(picture: NDArray[np.uint8], quality: int) -> bytes:
    """(H, W, 3) RGB -> JPEG bytes."""
    done, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done  # an RGB picture of at least one pixel always encodes
    return bytes(data.tobytes())
