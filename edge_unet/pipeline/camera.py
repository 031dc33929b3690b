"""`edge-unet camera`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_unet.core.errors import UsageError
from edge_unet.core.files import require_writable, write_text

if TYPE_CHECKING:
    from edge_unet.segment.camera.options import CameraOptions

Say = Callable[[str], None]


def run_camera(
    bundles: Sequence[Path], source: str, options: CameraOptions, *, plot: Path | None = None, say: Say = print
) -> dict[str, Any]:
    """Run the host camera; returns counts and per-stage times. `plot` draws them over time (SVG)."""
    from edge_unet.pipeline.camera_plot import frame_plot
    from edge_unet.segment.camera.loop import run_camera as run

    if plot is not None:
        require_writable(plot)
    stats = run(bundles, source, options, say=say)
    if plot is not None:
        write_text(plot, frame_plot(stats))
        say(f"wrote {plot}")
    return stats.row()


def one_bundle(bundles: Sequence[Path], option: str) -> Path:
    """The only bundle. Raises UsageError where several were named for an option that runs one."""
    if len(bundles) != 1:
        raise UsageError(f"camera: {option} takes one bundle, received {len(bundles)}")
    return bundles[0]
