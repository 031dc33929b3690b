"""Where pictures go: a window, a video file, an RTSP server or nowhere."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import MissingBackendError, UsageError, require
from edge_unet.segment.camera.recording import H264, Encoder, VideoFile

RTSP = {**H264, "tune": "zerolatency", "g": "50"}


class Sink(Protocol):
    """Takes finished pictures."""

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """Take one (H, W, 3) RGB picture; False where the user wants to stop."""
        ...

    def close(self) -> None:
        """Finish the file or the window."""
        ...


def open_sink(text: str, fps: float, *, live: bool = False, say: Callable[[str], None] = print) -> Sink:
    """window, file://PATH, rtsp://HOST/… or none; `live` stamps a file's pictures with the clock.

    Raises UsageError on anything else or where no server answers, MissingBackendError without a GUI or PyAV.
    """
    if text == "none":
        return NoSink()
    if text == "window":
        return Window()
    if text.startswith("file://"):
        return VideoFile(Path(text.removeprefix("file://")), fps, live=live)
    if text.startswith(("rtsp://", "rtsps://")):
        return RtspStream(text, fps, say)
    raise UsageError(f"unknown sink {text!r}; expected window, file://PATH, rtsp://HOST/… or none")


class NoSink:
    """Takes pictures and drops them: for measuring."""

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """See Sink."""
        return True

    def close(self) -> None:
        """Nothing is held."""


class Window:
    """A window; q or Escape ends. `key` is the last key, "" where none was pressed: keys.py says what it means."""

    TITLE = "edge_unet"

    def __init__(self) -> None:
        lines = [line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")]
        if any("NONE" in line for line in lines):
            raise MissingBackendError(
                "this OpenCV has no windows (opencv-python-headless); use --sink file://out.mp4 or --sink none, "
                "or install opencv-python in its place"
            )
        cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL)
        self.key = ""

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """See Sink."""
        cv2.imshow(self.TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        code = cv2.waitKey(1)
        self.key = chr(code & 0xFF) if code >= 0 else ""
        return self.key not in ("q", "\x1b")

    def close(self) -> None:
        """See Sink."""
        cv2.destroyWindow(self.TITLE)


class RtspStream:
    """Publishes to an RTSP server (RECORD), for example MediaMTX, which hands the stream on to whoever watches.

    A server that goes away does not stop the camera: pictures are dropped until it takes the stream again.
    """

    RETRY_S = 2.0

    def __init__(self, url: str, fps: float, say: Callable[[str], None] = print) -> None:
        self._av = require("av", "camera")
        self._url, self._say = url, say
        place = urlsplit(url)
        self._place = f"{place.hostname}:{place.port or 554}"  # what is said: a URL may hold a password
        self._rate = Fraction(fps or 25).limit_denominator(1001)
        self._encoder: Encoder | None = None
        self._again_at = 0.0
        self.lost = 0
        """Pictures that no server took."""
        try:
            socket.create_connection((place.hostname or "", place.port or 554), timeout=5).close()
        except (OSError, ValueError) as error:
            raise UsageError(
                f"no RTSP server at {self._place} ({error}); start one that takes streams, for example MediaMTX, and "
                "check the address"
            ) from error

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """See Sink."""
        if self._encoder is None and time.monotonic() < self._again_at:
            self.lost += 1
            return True
        try:
            if self._encoder is None:
                options = {"rtsp_transport": "tcp"}
                container = self._av.open(self._url, "w", format="rtsp", options=options, timeout=5.0)
                self._encoder = Encoder(container, self._rate, RTSP, time.monotonic)
            self._encoder.show(picture)
        except (self._av.error.FFmpegError, OSError) as error:
            self.lost += 1
            self._say(f"{self._place}: the server does not take the stream ({error}); trying again")
            self._forget()
            self._again_at = time.monotonic() + self.RETRY_S
        return True

    def close(self) -> None:
        """See Sink."""
        self._forget()

    def _forget(self) -> None:
        encoder, self._encoder = self._encoder, None
        if encoder is not None:
            with suppress(self._av.error.FFmpegError, OSError):
                encoder.finish()
