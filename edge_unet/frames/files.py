"""Image files -> arrays, in RGB, with errors that name the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import DataError

ColorOrder = Literal["RGB", "BGR", "GRAY"]


def read_frame(path: str | Path, color_order: ColorOrder = "RGB") -> NDArray[np.uint8]:
    """(H, W, 3) u8 in `color_order`, or (H, W, 1) for GRAY. Raises DataError on an unreadable or non-8-bit file."""
    image = _decode(Path(path))
    if image.dtype != np.uint8:
        raise DataError(f"{path}: {image.dtype} pixels; expected 8 bits a channel")
    if image.ndim == 2:
        image = image[..., None]  # (H, W, 1)
    if image.shape[2] == 4:
        raise DataError(f"{path}: has an alpha channel; expected RGB or grey, flatten it first")
    if image.shape[2] == 1 and color_order != "GRAY":
        return np.repeat(image, 3, axis=2)  # (H, W, 3)
    if image.shape[2] == 3 and color_order == "GRAY":
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)[..., None]  # (H, W, 1)
    return np.ascontiguousarray(image[..., ::-1]) if color_order == "RGB" else image


def read_mask(path: Path) -> NDArray[np.uint8]:
    """(H, W) u8 label values exactly as stored. Raises DataError unless it is single-channel 8-bit."""
    mask = _decode(path)
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise DataError(
            f"{path}: mask of shape {mask.shape} and {mask.dtype}; expected one 8-bit channel with a label per pixel"
        )
    return mask


def write_png(path: Path, image: NDArray[np.uint8]) -> None:
    """(H, W) or (H, W, 1) labels, or (H, W, 3) RGB, as PNG."""
    pixels = image[..., ::-1] if image.ndim == 3 and image.shape[2] == 3 else image
    done, data = cv2.imencode(".png", np.ascontiguousarray(pixels))
    if not done:
        raise DataError(f"{path}: could not encode an image of shape {image.shape} as PNG")
    path.write_bytes(data.tobytes())


def _decode(path: Path) -> NDArray[Any]:
    """The stored pixels, BGR where there are colours."""
    try:
        data = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        raise DataError(f"{path}: not a readable image (PNG or JPEG expected, {data.size} bytes received)")
    return np.asarray(image)
