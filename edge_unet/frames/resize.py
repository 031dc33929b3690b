"""The one resize of the toolkit: frame -> network input, and mask -> frame."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.spec import PreprocessSpec


def inner_rectangle(height: int, width: int, spec: PreprocessSpec) -> tuple[int, int, int, int]:
    """Where the frame lands in the input: (top, left, height, width)."""
    if spec.resize == "stretch":
        return 0, 0, spec.height, spec.width
    ratio = min(spec.height / height, spec.width / width)
    h, w = max(1, round(height * ratio)), max(1, round(width * ratio))
    return (spec.height - h) // 2, (spec.width - w) // 2, h, w


def resize_frame(frame: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.uint8]:
    """(H, W, C) u8 -> (spec.height, spec.width, C) u8, same colours. Area averaging when shrinking, else bilinear."""
    top, left, h, w = inner_rectangle(frame.shape[0], frame.shape[1], spec)
    if frame.shape[:2] == (h, w):
        scaled = frame
    else:
        shrinking = h < frame.shape[0] and w < frame.shape[1]
        scaled = np.asarray(
            cv2.resize(frame, (w, h), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR), np.uint8
        ).reshape(h, w, frame.shape[2])
    if (h, w) == (spec.height, spec.width):
        return scaled
    canvas = np.full((spec.height, spec.width, frame.shape[2]), spec.pad_value, np.uint8)
    canvas[top : top + h, left : left + w] = scaled
    return canvas


def resize_labels(mask: NDArray[np.uint8], spec: PreprocessSpec, fill: int = 0) -> NDArray[np.uint8]:
    """(H, W) labels -> (spec.height, spec.width), nearest: no label is ever interpolated. Letterbox bars get `fill`."""
    top, left, h, w = inner_rectangle(mask.shape[0], mask.shape[1], spec)
    scaled = np.asarray(cv2.resize(mask, (w, h), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
    canvas = np.full((spec.height, spec.width), fill, np.uint8)
    canvas[top : top + h, left : left + w] = scaled
    return canvas


def restore_mask(mask: NDArray[np.uint8], height: int, width: int, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """(spec.height, spec.width) class ids -> (height, width) of the original frame, nearest; letterbox bars are cut."""
    top, left, h, w = inner_rectangle(height, width, spec)
    inner = mask[top : top + h, left : left + w]
    return np.asarray(cv2.resize(inner, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
