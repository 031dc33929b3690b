"""Recordings: pictures as H.264, results as one JSON line a frame. Either has its name when it is whole."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError, require

TICKS = 90_000
"""Time stamps a second, as MPEG counts them."""
H264 = {"crf": "23", "preset": "veryfast", "bf": "0"}
"""Without frames that refer to later ones: the first picture is at 0 s, and a stream is not behind."""


class Encoder:
    """H.264 into an open PyAV container. The first picture sets the size; others are resized to it."""

    def __init__(
        self, container: Any, rate: Fraction, options: Mapping[str, str], clock: Callable[[], float] | None
    ) -> None:
        self._av = require("av", "camera")
        self._container, self._rate, self._options, self._clock = container, rate, dict(options), clock
        self._stream: Any = None
        self._began = self._stamp = 0

    @property
    def begun(self) -> bool:
        """Whether there was a picture."""
        return self._stream is not None

    def show(self, picture: NDArray[np.uint8]) -> None:
        """Encode one (H, W, 3) RGB picture; odd sizes lose their last row or column (H.264 needs even)."""
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options=self._options)
            self._stream.width, self._stream.height = picture.shape[1] // 2 * 2, picture.shape[0] // 2 * 2
            self._stream.pix_fmt = "yuv420p"
            if self._clock is not None:
                self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, TICKS)
                self._began, self._stamp = round(self._clock() * TICKS), -1
        size = (self._stream.width, self._stream.height)
        if picture.shape[0] // 2 * 2 != size[1] or picture.shape[1] // 2 * 2 != size[0]:
            picture = np.asarray(cv2.resize(picture, size), np.uint8)
        even = np.ascontiguousarray(picture[: size[1], : size[0]])
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        if self._clock is not None:  # a live source has no rate: the recording shows when things happened
            self._stamp = max(self._stamp + 1, round(self._clock() * TICKS) - self._began)
            frame.pts, frame.time_base = self._stamp, Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))

    def finish(self) -> None:
        """Write what is left and close the container."""
        if self._stream is not None:
            self._container.mux(self._stream.encode())
        self._container.close()


class VideoFile:
    """An H.264 .mp4 through PyAV. It is written under a temporary name and renamed when it is complete.

    Cut off by a power failure, the temporary file plays up to its last second (it is written in fragments).
    `live` stamps each picture with the clock; otherwise they follow each other at `fps`.
    """

    def __init__(self, path: Path, fps: float, *, live: bool = False) -> None:
        av = require("av", "camera")
        self._path = path
        self._temporary = path.with_name(f".{path.stem}.partial{path.suffix or '.mp4'}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            container = av.open(
                str(self._temporary), "w", format="mp4",
                options={"movflags": "+hybrid_fragmented", "frag_duration": "1000000", "flush_packets": "1"},
            )  # fmt: skip
        except (OSError, av.error.FFmpegError) as error:
            raise UsageError(f"cannot write {path}: {error}; choose a writable place") from error
        rate = Fraction(fps or 25).limit_denominator(1001)
        self._encoder = Encoder(container, rate, H264, time.monotonic if live else None)

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """See Sink."""
        self._encoder.show(picture)
        return True

    def close(self) -> None:
        """Write what is left and give the file its name. Without a single picture there is no file."""
        self._encoder.finish()
        if self._encoder.begun:
            self._temporary.replace(self._path)
        else:
            self._temporary.unlink(missing_ok=True)


class Results:
    """One JSON object a line, a line a frame: what was segmented when, at which level, and how long it took."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: TextIO = self._temporary.open("w", encoding="utf-8")
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror or error}; choose a writable place") from error

    def write(self, row: Mapping[str, Any]) -> None:
        """Add a line."""
        self._file.write(json.dumps(row, sort_keys=True) + "\n")

    def close(self) -> None:
        """Finish, and give the file its name."""
        self._file.close()
        self._temporary.replace(self._path)
