"""Images that need not fit into memory: read and written a band of rows at a time.

.npy (uint8, height x width x 3, RGB) is read by bands, and so is its mask written. PNG and JPEG are decoded whole,
because OpenCV cannot do it otherwise: an 8192 x 8192 RGB picture is 192 MiB before anything is segmented.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import DataError, UsageError
from edge_unet.core.files import written_whole
from edge_unet.frames import read_frame, write_png
from edge_unet.segment.camera.sources import IMAGE_SUFFIXES
from edge_unet.segment.colours import in_order
from edge_unet.segment.segmenter import Segmenter
from edge_unet.segment.tiles import Progress, Rows

NPY = ".npy"


@dataclass(frozen=True, slots=True)
class LargeImage:
    """An image by its rows: `rows(top, bottom)` is (bottom - top, width, 3) u8 RGB."""

    path: Path
    height: int
    width: int
    rows: Rows


def images_of(place: Path) -> list[Path]:
    """An image, or the images of a folder in name order. Raises UsageError where there is none."""
    suffixes = (*IMAGE_SUFFIXES, NPY)
    found = sorted(p for p in place.iterdir() if p.suffix.lower() in suffixes) if place.is_dir() else [place]
    if not found or not found[0].is_file() or found[0].suffix.lower() not in suffixes:
        raise UsageError(f"{place}: no images; expected a file or a folder of {', '.join(suffixes)}")
    return found


def open_image(path: Path) -> LargeImage:
    """Open an image for reading by rows. Raises DataError on one that is damaged or of another kind."""
    if path.suffix.lower() != NPY:
        frame = read_frame(path)
        return LargeImage(path, frame.shape[0], frame.shape[1], lambda top, bottom: frame[top:bottom])
    try:
        mapped = np.load(path, mmap_mode="r")
        shape, dtype, offset, rowwise = mapped.shape, mapped.dtype, int(mapped.offset), mapped.flags.c_contiguous
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise DataError(f"{path}: not a readable .npy array ({error})") from error
    if dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or 0 in shape or not rowwise:
        raise DataError(
            f"{path}: array of shape {shape} and {dtype}; expected (height, width, 3) uint8 RGB, row by row"
        )
    height, width = shape[:2]

    def rows(top: int, bottom: int) -> NDArray[np.uint8]:
        """Read, not mapped: pages of a mapping stay in memory as long as nobody else wants them."""
        count = (bottom - top) * width * 3
        return np.fromfile(path, np.uint8, count, offset=offset + top * width * 3).reshape(bottom - top, width, 3)

    return LargeImage(path, height, width, rows)


def segment_large(
    segmenter: Segmenter, image: LargeImage, out: Path, *, overlap: float = 0.25, progress: Progress | None = None
) -> None:
    """Write the mask of an image: class ids, as .npy row by row, or as PNG (held whole). Whole or not at all."""
    order = segmenter.preprocess.color_order
    bands = segmenter.mask_rows(
        lambda top, bottom: in_order(image.rows(top, bottom), order),
        (image.height, image.width),
        overlap=overlap,
        progress=progress,
    )
    with written_whole(out) as temporary:
        if out.suffix.lower() == NPY:
            _write_npy(temporary, bands, (image.height, image.width))
        else:
            write_png(temporary, np.concatenate([band for _, band in bands]))


def _write_npy(path: Path, bands: Iterator[tuple[int, NDArray[np.uint8]]], shape: tuple[int, int]) -> None:
    with path.open("wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for _, band in bands:
            stream.write(band.tobytes())
