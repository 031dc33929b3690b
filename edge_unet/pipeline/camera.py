"""`edge-unet camera`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def run_camera(
    bundle: Path,
    source: str,
    sink: str,
    *,
    frames: int | None,
    alpha: float,
    threads: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Run the host camera; returns counts and per-stage times."""
    from edge_unet.segment.camera.loop import run_camera as run

    return run(bundle, source, sink, frames=frames, alpha=alpha, threads=threads, say=say).row()
