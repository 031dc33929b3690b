"""Frames with their times, from any source: what an app's loop reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import DataError, UsageError
from edge_unet.segment.camera.capture import Capture
from edge_unet.segment.camera.sources import SourceEndedError

DEFAULT_FPS = 25.0
STALL_S = 2.0


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A frame and when it was: counted from the source's start, by its frame rate for a file, by the clock live."""

    index: int
    time_s: float
    pixels: NDArray[np.uint8]  # (H, W, 3) RGB


def read_frames(
    capture: Capture, limit: int | None = None, *, stall_s: float = STALL_S, say: Callable[[str], None] = print
) -> Iterator[TimedFrame]:
    """Frames of an entered capture until it ends or `limit` were given.

    Raises DataError where a file's frames change their size, UsageError where a file holds no frame at all.
    """
    fps = capture.fps or DEFAULT_FPS
    started = time.monotonic()
    index, size = 0, None
    while limit is None or index < limit:
        try:
            frame = capture.take(stall_s)
        except SourceEndedError:
            break
        if frame is None:
            say(f"no frame for {stall_s:g} s; waiting")
            continue
        if size is not None and frame.shape != size:
            raise DataError(
                f"frame {index} is {frame.shape[1]}x{frame.shape[0]}, the ones before it "
                f"{size[1]}x{size[0]}; expected one size in a run"
            )
        size = frame.shape
        yield TimedFrame(index, time.monotonic() - started if capture.live else index / fps, frame)
        index += 1
    if index == 0 and limit != 0:
        raise UsageError("the source ended without a single frame; check the file or the camera")
