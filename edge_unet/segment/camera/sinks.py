"""Where pictures go: a window, a video file or nowhere."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import MissingBackendError, UsageError, require


class Sink(Protocol):
    """Takes finished pictures."""

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """Take one (H, W, 3) RGB picture; False where the user wants to stop."""
        ...

    def close(self) -> None:
        """Finish the file or the window."""
        ...


def open_sink(text: str, fps: float) -> Sink:
    """window, file://PATH or none. Raises UsageError on anything else, MissingBackendError without a GUI or PyAV."""
    if text == "none":
        return NoSink()
    if text == "window":
        return Window()
    if text.startswith("file://"):
        return VideoFile(Path(text.removeprefix("file://")), fps)
    raise UsageError(f"unknown sink {text!r}; expected window, file://PATH or none")


class NoSink:
    """Takes pictures and drops them: for measuring."""

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """See Sink."""
        return True

    def close(self) -> None:
        """Nothing is held."""


class Window:
    """A window; q or Escape ends."""

    TITLE = "edge_unet"

    def __init__(self) -> None:
        lines = [line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")]
        if any("NONE" in line for line in lines):
            raise MissingBackendError(
                "this OpenCV has no windows (opencv-python-headless); use --sink file://out.mp4 or --sink none, "
                "or install opencv-python in its place"
            )
        cv2.namedWindow(self.TITLE, cv2.WINDOW_NORMAL)

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """See Sink."""
        cv2.imshow(self.TITLE, picture[..., ::-1])
        return cv2.waitKey(1) & 0xFF not in (27, ord("q"))

    def close(self) -> None:
        """See Sink."""
        cv2.destroyWindow(self.TITLE)


class VideoFile:
    """An H.264 .mp4 through PyAV. It is written under a temporary name and renamed when it is complete."""

    def __init__(self, path: Path, fps: float) -> None:
        self._av = require("av", "camera")
        self._path = path
        self._temporary = path.with_name(f".{path.stem}.partial{path.suffix or '.mp4'}")
        self._rate = Fraction(round(fps or 25), 1)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = self._av.open(str(self._temporary), "w", format="mp4")
        except (OSError, self._av.error.FFmpegError) as error:
            raise UsageError(f"cannot write {path}: {error}; choose a writable --sink") from error
        self._stream: Any = None

    def show(self, picture: NDArray[np.uint8]) -> bool:
        """See Sink. The first picture sets the size; odd sizes lose their last row or column (H.264 needs even)."""
        height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
        if self._stream is None:
            self._stream = self._container.add_stream(
                "libx264", rate=self._rate, options={"crf": "23", "preset": "veryfast"}
            )
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        if (height, width) != (self._stream.height, self._stream.width):
            picture = np.asarray(cv2.resize(picture, (self._stream.width, self._stream.height)), np.uint8)
        even = np.ascontiguousarray(picture[: self._stream.height, : self._stream.width])
        frame = self._av.VideoFrame.from_ndarray(even, format="rgb24")
        self._container.mux(self._stream.encode(frame))
        return True

    def close(self) -> None:
        """Write what is left and give the file its name. Without a single picture there is no file."""
        if self._stream is None:
            self._container.close()
            self._temporary.unlink(missing_ok=True)
            return
        self._container.mux(self._stream.encode())
        self._container.close()
        self._temporary.replace(self._path)
