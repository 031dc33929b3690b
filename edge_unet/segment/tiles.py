"""Overlap-tile inference for images larger than the network's input (U-Net paper, figure 2)."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(1, h, w, C) u8 pixels -> (classes, h, w) float32 logits."""


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Starts of tiles that cover `length` pixels: evenly spaced, the last one flush with the end."""
    if length <= tile:
        return [0]
    stride = max(1, int(tile * (1 - overlap)))
    count = -(-(length - tile) // stride) + 1
    return [round(n * (length - tile) / (count - 1)) for n in range(count)]


def blend_window(height: int, width: int) -> NDArray[np.float32]:
    """(height, width) weights in (0, 1], highest in the middle: a separable triangle, never zero."""
    rows = 1 - np.abs((np.arange(height) + 0.5) / height * 2 - 1)
    columns = 1 - np.abs((np.arange(width) + 0.5) / width * 2 - 1)
    return np.maximum(np.outer(rows, columns), 1e-3).astype(np.float32)


def tiled_logits(
    frame: NDArray[np.uint8], tile_height: int, tile_width: int, overlap: float, logits: Logits
) -> NDArray[np.float32]:
    """(H, W, C) frame -> (classes, H, W) logits. A frame smaller than a tile is mirrored up to it and cut back.

    Raises UsageError unless 0 <= overlap < 1.
    """
    if not 0 <= overlap < 1:
        raise UsageError(f"overlap {overlap} is outside 0..1 (1 excluded)")
    height, width = frame.shape[:2]
    below, right = max(0, tile_height - height), max(0, tile_width - width)
    padded = frame
    if below or right:
        padded = np.asarray(cv2.copyMakeBorder(frame, 0, below, 0, right, cv2.BORDER_REFLECT), np.uint8)
        padded = padded.reshape(height + below, width + right, frame.shape[2])
    window = blend_window(tile_height, tile_width)
    total: NDArray[np.float32] | None = None
    weight = np.zeros(padded.shape[:2], np.float32)
    for top in tile_starts(padded.shape[0], tile_height, overlap):
        for left in tile_starts(padded.shape[1], tile_width, overlap):
            area = (slice(top, top + tile_height), slice(left, left + tile_width))
            part = logits(np.ascontiguousarray(padded[area])[None])  # (classes, h, w)
            if total is None:
                total = np.zeros((part.shape[0], *padded.shape[:2]), np.float32)
            total[(slice(None), *area)] += part * window
            weight[area] += window
    assert total is not None  # tile_starts never returns an empty list
    return np.asarray((total / weight)[:, :height, :width])
