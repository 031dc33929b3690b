"""The capture thread: the newest frame of a live source, every frame of a file; a lost camera is opened again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import EdgeUnetError
from edge_unet.segment.camera.sources import Source, SourceEndedError

Opener = Callable[[], Source]


class Capture:
    """Reads a source in its own thread into a slot of one frame.

    Live: a new frame replaces one that was not taken (latest frame wins; `dropped` counts them), and a source that
    ends or fails is opened again every `retry_s` seconds, at most `retries` times in a row. Files: the thread waits
    until the frame was taken, so that none is lost, and the end is the end.
    """

    def __init__(self, opener: Opener, *, retries: int = 10, retry_s: float = 1.0) -> None:
        self._opener, self._retries, self._retry_s = opener, retries, retry_s
        self._source: Source | None = opener()
        self.live, self.fps = self._source.live, self._source.fps
        self.dropped = self.reopened = 0
        self._slot: NDArray[np.uint8] | None = None
        self._failure: BaseException | None = None
        self._ended = self._stopping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout=5)  # a driver stuck in read() must not hang the program; the thread is a daemon

    def take(self, timeout_s: float) -> NDArray[np.uint8] | None:
        """The next frame; None where none came within the time (a stall). Raises SourceEndedError at the end, and
        whatever error the source raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._slot is not None or self._ended, timeout_s)
            frame, self._slot = self._slot, None
            self._changed.notify_all()
            if frame is None and self._ended:
                raise self._failure or SourceEndedError
            return frame

    def _run(self) -> None:
        """The thread."""
        failures = 0
        try:
            while not self._stopping:
                try:
                    if self._source is None:
                        self._source = self._opener()
                        self.reopened += 1
                    frame = self._source.read()
                except (SourceEndedError, EdgeUnetError) as error:
                    failures += 1
                    if not self._lost(error, failures):
                        break
                    continue
                failures = 0
                self._put(frame)
        finally:
            if self._source is not None:
                self._source.close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _lost(self, error: Exception, failures: int) -> bool:
        """Close the source and wait to open it again; False where it is over."""
        if self._source is not None:
            self._source.close()
            self._source = None
        if not self.live or failures > self._retries:
            self._failure = error if isinstance(error, EdgeUnetError) else None
            return False
        end = time.monotonic() + self._retry_s
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, max(0.0, end - time.monotonic()))
        return not self._stopping

    def _put(self, frame: NDArray[np.uint8]) -> None:
        with self._changed:
            if self.live:
                self.dropped += self._slot is not None
            else:
                self._changed.wait_for(lambda: self._slot is None or self._stopping)
            self._slot = frame
            self._changed.notify_all()
