"""Everything a run gives out: the sink, the recordings and the results, opened and closed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_unet.segment.camera.options import CameraOptions
from edge_unet.segment.camera.recording import Results, VideoFile
from edge_unet.segment.camera.sinks import Window, open_sink
from edge_unet.segment.camera.stats import CameraStats
from edge_unet.segment.segmenter import Segmentation


class Outputs:
    """A context manager. Leaving it finishes every file, also where one of them fails."""

    def __init__(self, options: CameraOptions, fps: float, *, live: bool, say: Callable[[str], None]) -> None:
        with ExitStack() as stack:
            self._sink = open_sink(options.sink, fps, live=live, say=say)
            stack.callback(self._sink.close)
            self._record = VideoFile(options.record, fps, live=live) if options.record else None
            if self._record is not None:
                stack.callback(self._record.close)
            self._clean = VideoFile(options.record_clean, fps, live=live) if options.record_clean else None
            if self._clean is not None:
                stack.callback(self._clean.close)
            self._results = Results(options.results) if options.results else None
            if self._results is not None:
                stack.callback(self._results.close)
            self._stack = stack.pop_all()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def key(self) -> str:
        """The last key of the window; "" without one."""
        return self._sink.key if isinstance(self._sink, Window) else ""

    def show(self, frame: NDArray[np.uint8], picture: NDArray[np.uint8]) -> bool:
        """Show and record one frame and its picture; False where the sink wants no more."""
        if self._record is not None:
            self._record.show(picture)
        if self._clean is not None:
            self._clean.show(frame)
        return self._sink.show(picture)

    def again(self, picture: NDArray[np.uint8]) -> None:
        """Show the same picture once more, for its keys; it is not recorded."""
        self._sink.show(picture)

    def write(self, stats: CameraStats, result: Segmentation, level: str, stages_ns: Mapping[str, int]) -> None:
        """The frame's line in the results, where they are wanted."""
        if self._results is None:
            return
        names = result.classes.names
        counts = np.bincount(result.mask.ravel(), minlength=len(names))
        row = {
            "frame": stats.frames,
            "level": level,
            "ms": {name: round(ns / 1e6, 3) for name, ns in stages_ns.items()},
            "pixels": {name: int(count) for name, count in zip(names, counts, strict=False)},
        }
        self._results.write(row)
