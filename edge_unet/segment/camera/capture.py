"""The capture thread: the newest frame of a live source, every frame of a file; a lost or frozen camera is opened
again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import EdgeUnetError
from edge_unet.segment.camera.playback import Pace
from edge_unet.segment.camera.sources import Source, SourceEndedError

Opener = Callable[[], Source]
STUCK_MOST = 3
"""Threads that hang in a driver and are left behind; with more, nothing is opened until one of them returns."""


class Capture:
    """Reads a source in its own thread into a slot of one frame.

    Live: a new frame replaces one that was not taken (latest frame wins; `dropped` counts them), and a source that
    ends or fails is opened again every `retry_s` seconds, at most `retries` times in a row (None: until it comes
    back). One that hangs in its driver for `frozen_s` seconds is left behind with its thread and opened again. Files:
    the thread waits until the frame was taken, so that none is lost, and the end is the end; with `realtime` they
    play at their own rate.
    """

    def __init__(
        self,
        opener: Opener,
        *,
        retries: int | None = 10,
        retry_s: float = 1.0,
        frozen_s: float | None = None,
        realtime: bool = False,
    ) -> None:
        self._opener, self._retries, self._retry_s, self._frozen_s = opener, retries, retry_s, frozen_s
        self._first: Source | None = opener()
        self.live, self.fps = self._first.live, self._first.fps
        self._pace = Pace(self.fps) if realtime and not self.live else None
        self.dropped = self.reopened = self.decode_ns = 0
        """`decode_ns`: what read() took for the frame last taken; of a camera, the wait for its sensor is in it."""
        self._slot: tuple[NDArray[np.uint8], int] | None = None
        self._failure: BaseException | None = None
        self._ended = self._stopping = False
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._alive_at = time.monotonic()

    def __enter__(self) -> Capture:
        self._start(self._first)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._threads[-1].join(timeout=5)  # a driver stuck in read() must not hang the program: threads are daemons

    def take(self, timeout_s: float) -> NDArray[np.uint8] | None:
        """The next frame; None where none came within the time (a stall). Raises SourceEndedError at the end, and
        whatever error the source raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._slot is not None or self._ended, timeout_s)
            taken, self._slot = self._slot, None
            self._changed.notify_all()
            if taken is None and self._ended:
                raise self._failure or SourceEndedError
        if taken is None:
            self._replace_stuck()
            return None
        frame, self.decode_ns = taken
        return frame

    def _start(self, source: Source | None) -> None:
        self._alive_at = time.monotonic()
        thread = threading.Thread(target=self._run, args=(source,), name="capture", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _replace_stuck(self) -> None:
        """Where the thread has hung too long in its driver, put another in charge that opens the source anew."""
        if not self.live or self._frozen_s is None or time.monotonic() - self._alive_at < self._frozen_s:
            return
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if len(self._threads) <= STUCK_MOST:
            self._start(None)

    def _in_charge(self) -> bool:
        return not self._stopping and threading.current_thread() is self._threads[-1]

    def _run(self, source: Source | None) -> None:
        """A thread. The last one that was started is in charge; one that was replaced closes its source and ends."""
        failures = 0
        try:
            while self._in_charge():
                try:
                    if source is None:
                        source = self._opener()
                        self.reopened += 1
                    before = time.perf_counter_ns()
                    frame = source.read()
                    took = time.perf_counter_ns() - before
                except (SourceEndedError, EdgeUnetError) as error:
                    failures += 1
                    if source is not None:
                        source.close()
                        source = None
                    if not self._wait_to_open(error, failures):
                        break
                    continue
                failures = 0
                if self._pace is not None:
                    self._sleep(self._pace.wait_s(time.monotonic()))
                self._put(frame, took)
        finally:
            if source is not None:
                source.close()
            with self._changed:
                self._ended = self._ended or threading.current_thread() is self._threads[-1]
                self._changed.notify_all()

    def _wait_to_open(self, error: Exception, failures: int) -> bool:
        """Wait before the source is opened again; False where it is over."""
        if not self.live or (self._retries is not None and failures > self._retries):
            self._failure = error if isinstance(error, EdgeUnetError) else None
            return False
        self._alive_at = time.monotonic()
        self._sleep(self._retry_s)
        return not self._stopping

    def _sleep(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopping, seconds)

    def _put(self, frame: NDArray[np.uint8], took_ns: int) -> None:
        with self._changed:
            if not self._in_charge():
                return
            self._alive_at = time.monotonic()
            if self.live:
                self.dropped += self._slot is not None
            else:
                self._changed.wait_for(lambda: self._slot is None or self._stopping)
            self._slot = (frame, took_ns)
            self._changed.notify_all()
