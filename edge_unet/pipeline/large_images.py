"""`edge-unet camera --tiled`: images larger than the network's input, at their own scale, into masks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_unet.core.errors import UsageError


def segment_images(
    bundle: Path,
    source: str,
    masks: Path | None,
    *,
    overlap: float,
    threads: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Segment every image of a source tile by tile and write its mask into `masks`, under the image's name.

    Raises UsageError for a source that is not images, or without a place for the masks.
    """
    from edge_unet.frames.threads import opencv_threads
    from edge_unet.segment.large import NPY, images_of, open_image, segment_large
    from edge_unet.segment.progress import tile_progress
    from edge_unet.segment.segmenter import Segmenter

    if masks is None:
        raise UsageError("camera: --tiled writes masks; say where with --masks FOLDER")
    if "://" in source and not source.startswith("file://"):
        raise UsageError(f"camera: --tiled is for images; received source {source!r}, expected file://PATH")
    paths = images_of(Path(source.removeprefix("file://")))
    rows = []
    with opencv_threads(threads), Segmenter.load(bundle, threads=threads) as segmenter:
        for path in paths:
            image = open_image(path)
            out = masks / f"{path.stem}{NPY if path.suffix.lower() == NPY else '.png'}"
            if out.absolute() == path.absolute():
                raise UsageError(f"camera: the mask of {path} would take its place; choose another --masks")
            began = time.monotonic()
            with tile_progress(path.name, say=say) as progress:
                segment_large(segmenter, image, out, overlap=overlap, progress=progress)
            seconds = time.monotonic() - began
            say(f"{out}: {image.height}x{image.width} in {seconds:.1f} s")
            rows.append({"mask": str(out), "height": image.height, "width": image.width, "seconds": seconds})
    return {"images": rows}
