"""What the user asked of a camera run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_unet.core.errors import UsageError
from edge_unet.segment.camera.sources import SourceUri


@dataclass(frozen=True, slots=True)
class CameraOptions:
    """`record` takes the pictures with their overlay, `record_clean` the frames as they came, `results` one JSON line
    a frame. `loop` and `realtime` are for files."""

    sink: str = "window"
    frames: int | None = None
    alpha: float = 0.45
    threads: int = 1
    loop: bool = False
    realtime: bool = False
    record: Path | None = None
    record_clean: Path | None = None
    results: Path | None = None
    deadline_ms: float | None = None
    stall_s: float = 2.0
    frozen_s: float = 10.0

    def check(self, uri: SourceUri) -> None:
        """Raise UsageError for options that do not go with the source or with each other."""
        for name, wanted in (("--loop", self.loop), ("--realtime", self.realtime)):
            if wanted and uri.live:
                raise UsageError(f"{name} is for files; {uri.place} is a live source: leave {name} out")
        written = [p.absolute() for p in (self.record, self.record_clean, self.results, self._sink_file()) if p]
        if len(set(written)) < len(written):
            raise UsageError(f"the same file is to be written twice: {', '.join(map(str, written))}")

    def _sink_file(self) -> Path | None:
        return Path(self.sink.removeprefix("file://")) if self.sink.startswith("file://") else None
