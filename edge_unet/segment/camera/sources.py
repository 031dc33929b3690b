"""Where frames come from, by URI: 0, v4l2:///dev/video0, file://PATH, rtsp://HOST/…, csi://0.

The grammar is that of jetson-utils, so a URI that worked there works here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import MissingBackendError, UsageError, require

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
CSI_PIPELINE = (
    "nvarguscamerasrc sensor-id={index} ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 ! "
    "nvvidconv ! video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=1 max-buffers=1"
)


class SourceEndedError(Exception):
    """The source has no more frames. Not a user's mistake: a file ends, a camera is unplugged."""


class Source(Protocol):
    """An opened source. `live` sources never wait for the reader: frames nobody took are dropped."""

    @property
    def live(self) -> bool:
        """Whether it goes on whether or not anybody reads."""
        ...

    @property
    def fps(self) -> float:
        """Nominal frames per second, 0 where the source does not say."""
        ...

    def read(self) -> NDArray[np.uint8]:
        """The next frame, (H, W, 3) u8 RGB. Raises SourceEndedError at the end."""
        ...

    def close(self) -> None:
        """Free the device or file."""
        ...


@dataclass(frozen=True, slots=True)
class SourceUri:
    """A parsed URI: kind is index, v4l2, csi, rtsp, video or images."""

    kind: str
    place: str

    @property
    def live(self) -> bool:
        """True for cameras and streams, False for files."""
        return self.kind not in ("video", "images")

    @staticmethod
    def parse(text: str) -> SourceUri:
        """Parse a URI. Raises UsageError on an unknown scheme or a file that is not there."""
        if text.isdecimal():
            return SourceUri("index", text)
        scheme, separator, place = text.partition("://")
        if not separator:
            scheme, place = "file", text
        if scheme in ("v4l2", "csi"):
            return SourceUri(scheme, place)
        if scheme in ("rtsp", "rtsps"):
            return SourceUri("rtsp", text)
        if scheme == "file":
            path = Path(place)
            if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
                return SourceUri("images", place)
            if not path.is_file():
                raise UsageError(f"{place}: no such video; expected a file, or a folder of images")
            return SourceUri("video", place)
        raise UsageError(f"unknown source {text!r}; expected 0, v4l2:///dev/video0, file://PATH, rtsp://… or csi://0")


def open_source(uri: SourceUri) -> Source:
    """Open a source. Raises UsageError where it does not open, MissingBackendError for csi without GStreamer."""
    if uri.kind == "images":
        return ImageFolder(Path(uri.place))
    if uri.kind in ("video", "rtsp"):
        return AvSource(uri.place, live=uri.live)
    if uri.kind == "csi":
        if "GStreamer:                   YES" not in cv2.getBuildInformation():
            raise MissingBackendError(
                "csi:// needs an OpenCV built with GStreamer; the pip wheels are not. On a Jetson use the system's "
                "python3-opencv (JetPack's), in a virtual environment made with --system-site-packages"
            )
        return CvSource(CSI_PIPELINE.format(index=int(uri.place or 0)), cv2.CAP_GSTREAMER)
    return CvSource(int(uri.place) if uri.kind == "index" else uri.place, cv2.CAP_V4L2)


class CvSource:
    """A local camera through OpenCV, with the smallest driver queue it allows."""

    live = True

    def __init__(self, place: int | str, backend: int) -> None:
        self._capture = cv2.VideoCapture(place, backend)
        if not self._capture.isOpened():
            raise UsageError(f"camera {place!r} does not open; check that it is plugged in and not used elsewhere")
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.fps = float(self._capture.get(cv2.CAP_PROP_FPS))

    def read(self) -> NDArray[np.uint8]:
        """See Source."""
        done, frame = self._capture.read()
        if not done:
            raise SourceEndedError
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)

    def close(self) -> None:
        """See Source."""
        self._capture.release()


class AvSource:
    """A video file or an RTSP stream through PyAV."""

    def __init__(self, place: str, *, live: bool) -> None:
        av = require("av", "camera")
        self.live = live
        self._error = av.error.FFmpegError
        options = {"rtsp_transport": "tcp", "timeout": "5000000"} if live else {}
        try:
            self._container = av.open(place, options=options)
            stream = self._container.streams.video[0]
        except (self._error, IndexError, OSError) as error:
            raise UsageError(f"{place}: cannot open as video ({error}); check the file or the address") from error
        stream.thread_type = "AUTO"
        self.fps = float(stream.average_rate or 0)
        self._frames: Iterator[Any] = self._container.decode(stream)

    def read(self) -> NDArray[np.uint8]:
        """See Source."""
        try:
            return np.asarray(next(self._frames).to_ndarray(format="rgb24"), np.uint8)
        except (StopIteration, self._error) as error:
            raise SourceEndedError from error

    def close(self) -> None:
        """See Source."""
        self._container.close()


class ImageFolder:
    """One image, or the images of a folder in name order."""

    live = False
    fps = 0.0

    def __init__(self, path: Path) -> None:
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES) if path.is_dir() else [path]
        if not found or not found[0].is_file():
            raise UsageError(f"{path}: no images ({', '.join(IMAGE_SUFFIXES)})")
        self._left = iter(found)

    def read(self) -> NDArray[np.uint8]:
        """See Source. An unreadable file raises DataError."""
        from edge_unet.frames import read_frame

        path = next(self._left, None)
        if path is None:
            raise SourceEndedError
        return read_frame(path)

    def close(self) -> None:
        """Nothing is held open."""
