"""Maps of real numbers over a frame: a network's output brought to the frame's size, and drawn as a heat map."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.spec import PreprocessSpec
from edge_unet.frames.resize import inner_rectangle


def restore_values(values: NDArray[np.float32], height: int, width: int, spec: PreprocessSpec) -> NDArray[np.float32]:
    """(spec.height, spec.width) real values -> (height, width) of the original frame, bilinear; letterbox bars are
    cut. The twin of `frames.restore_mask`, which must not interpolate."""
    top, left, h, w = inner_rectangle(height, width, spec)
    inner = np.ascontiguousarray(values[top : top + h, left : left + w], np.float32)
    if (h, w) == (height, width):
        return inner
    return np.asarray(cv2.resize(inner, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def draw_heat(
    frame: NDArray[np.uint8], values: NDArray[np.float32], ceiling: float, opacity: float = 0.75
) -> NDArray[np.uint8]:
    """(H, W, 3) RGB frame and (H, W) values in 0..ceiling -> (H, W, 3) RGB with a heat map over it.

    The opacity of a pixel grows with its value: where nothing is to be said the frame stays as it is.
    """
    share = np.clip(values / np.float32(ceiling), 0, 1)
    heat = cv2.applyColorMap((share * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]  # (H, W, 3) RGB
    cover = np.minimum(share * 2, 1)[..., None] * np.float32(opacity)  # (H, W, 1)
    return np.asarray(np.rint(frame * (1 - cover) + heat * cover), np.uint8)
