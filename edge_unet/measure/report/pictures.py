"""One frame with the masks of several targets drawn over it, as PNGs that fit inside the page."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import DataError
from edge_unet.core.report import Picture
from edge_unet.core.spec import ClassSpec, PreprocessSpec
from edge_unet.frames.overlay import draw_overlay, frame_as_rgb


def make_picture(
    title: str,
    frame: NDArray[np.uint8],
    masks: Mapping[str, NDArray[np.uint8]],
    classes: ClassSpec,
    preprocess: PreprocessSpec,
    *,
    truth: NDArray[np.uint8] | None = None,
    reference: NDArray[np.uint8] | None = None,
) -> Picture:
    """`frame` (h, w, C) u8, every mask (h, w) class ids under its row label (Subject.label).

    `reference` is the mask each one's agreement is counted against. Raises UsageError where sizes differ.
    """

    def drawn(mask: NDArray[np.uint8]) -> str:
        return _png(draw_overlay(frame, mask, classes, preprocess.color_order))

    return Picture(
        title=title,
        frame_png=_png(frame_as_rgb(frame, preprocess)),
        truth_png=None if truth is None else drawn(truth),
        masks_png={label: drawn(mask) for label, mask in masks.items()},
        agreement={}
        if reference is None
        else {label: float((mask == reference).mean()) for label, mask in masks.items()},
    )


def _png(rgb: NDArray[np.uint8]) -> str:
    """(H, W, 3) RGB -> base64 of its PNG."""
    done, data = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    if not done:
        raise DataError(f"could not encode a picture of shape {rgb.shape} as PNG")
    return base64.b64encode(data.tobytes()).decode("ascii")
