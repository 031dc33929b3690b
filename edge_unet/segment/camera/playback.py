"""Files that behave as a camera does: played again and again, and at their own rate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_unet.segment.camera.sources import Source, SourceEndedError

RATE = 25.0
"""Frames per second of what has no rate of its own: images."""


class Looped:
    """A file from its beginning whenever it ends. One without a single frame ends."""

    live = False

    def __init__(self, opener: Callable[[], Source]) -> None:
        self._opener = opener
        self._source = opener()
        self.fps = self._source.fps
        self._frames = 0

    def read(self) -> NDArray[np.uint8]:
        """See Source."""
        while True:
            try:
                frame = self._source.read()
            except SourceEndedError:
                if not self._frames:
                    raise
                self._source.close()
                self._source = self._opener()
                self._frames = 0
                continue
            self._frames += 1
            return frame

    def close(self) -> None:
        """See Source."""
        self._source.close()


class Pace:
    """The rhythm of a file that plays at its own rate. A frame that is late comes at once, but what was missed by more
    than a frame is not made up for: a camera does not hurry either."""

    def __init__(self, fps: float) -> None:
        self._step_s = 1 / (fps or RATE)
        self._due_s: float | None = None

    def wait_s(self, now_s: float) -> float:
        """Seconds from now until the frame that was just read is due."""
        due = now_s if self._due_s is None else max(self._due_s, now_s - self._step_s)
        self._due_s = due + self._step_s
        return max(0.0, due - now_s)
