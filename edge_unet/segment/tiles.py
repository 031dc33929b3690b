"""Overlap-tile inference for images larger than the network's input (U-Net paper, figure 2), a row of tiles at a time.

A tile sees padding where its neighbours see the image, so its logits are wrong within the network's receptive field of
its inner edges. They count for nothing there: each tile has a margin without weight, and the weights of the tiles are
blended between the margins. With a margin of at least the receptive field's radius, every logit is that of one pass
over the whole image, to the last bit: tiles lie on a grid that the network's poolings share, the weights are small
integers and the sums are float64, so that a weighted mean of equal float32 values is that value.

Memory holds one row of tiles, whatever the image's height: rows that no further tile reaches are given out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError

Logits = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""(1, h, w, C) u8 pixels -> (classes, h, w) float32 logits."""
Rows = Callable[[int, int], NDArray[np.uint8]]
"""(top, bottom) -> those rows of the image, (bottom - top, W, C) u8."""
Progress = Callable[[int, int], None]
"""Tiles that are done, tiles in all."""
COLUMNS = 512
GRID = 32
"""Poolings of a network divide by at most this."""
HIGHEST = 256
"""The highest weight along an axis: products of two, summed over tiles, times 24 bits stay within float64's 53."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How an axis is covered: starts of tiles on a grid, and how much each pixel of each tile counts."""

    length: int
    """Pixels, padded to the grid."""
    tile: int
    margin: int
    starts: tuple[int, ...]

    @classmethod
    def plan(cls, length: int, tile: int, overlap: float, margin: int | None = None) -> Tiling:
        """Cover `length` pixels. `margin` is None for a quarter of the overlap.

        Raises UsageError unless 0 <= overlap < 1 and two margins fit into the overlap.
        """
        if not 0 <= overlap < 1:
            raise UsageError(f"overlap {overlap} is outside 0..1 (1 excluded)")
        grid = grid_of(tile)
        padded = max(tile, -(-length // grid) * grid)
        starts = tile_starts(padded, tile, overlap, grid)
        shared = min((tile - (b - a) for a, b in itertools.pairwise(starts)), default=tile)
        margin = shared // 4 if margin is None else margin
        if not 0 <= margin <= shared // 2:
            raise UsageError(
                f"a margin of {margin} pixels does not fit twice into an overlap of {shared} pixels (tiles of {tile}); "
                "raise the overlap or lower the margin"
            )
        return cls(padded, tile, margin, tuple(starts))

    def weights(self, number: int) -> NDArray[np.float64]:
        """(tile,) integers of one tile: none in the margins, then rising inwards; at the image's edge it counts."""
        place = np.arange(self.tile)
        rising = np.full(self.tile, HIGHEST) if number == 0 else place - self.margin + 1
        falling = np.full(self.tile, HIGHEST)
        if number < len(self.starts) - 1:
            falling = self.tile - self.margin - place
        return np.asarray(np.clip(np.minimum(rising, falling), 0, HIGHEST), np.float64)

    def total(self) -> NDArray[np.float64]:
        """(length,) sum of the weights over all tiles; never 0."""
        summed = np.zeros(self.length)
        for number, start in enumerate(self.starts):
            summed[start : start + self.tile] += self.weights(number)
        return summed


def grid_of(tile: int) -> int:
    """The grid that tiles start on: the highest power of two that divides the tile, is at most half of it, and is no
    more than networks need. An overlap is raised to the next one that the grid allows."""
    grid = min(GRID, tile & -tile)
    return max(1, grid // 2) if grid == tile else grid


def tile_starts(length: int, tile: int, overlap: float, grid: int = 1) -> list[int]:
    """Starts of tiles that cover `length` pixels, multiples of `grid` if `length` and `tile` are; the last one is flush
    with the end."""
    if length <= tile:
        return [0]
    stride = max(grid, int(tile * (1 - overlap)) // grid * grid)
    return [*range(0, length - tile, stride), length - tile]


def tiled_rows(
    rows: Rows,
    shape: tuple[int, int],
    tile: tuple[int, int],
    logits: Logits,
    *,
    overlap: float = 0.25,
    margin: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(first row, (classes, rows, W) logits), top to bottom, each row once.

    What lies beyond the image, where it is smaller than a tile or no multiple of the grid, is mirrored.
    """
    down, across = (Tiling.plan(n, t, overlap, margin) for n, t in zip(shape, tile, strict=True))
    columns, counts, lines = [across.weights(n) for n in range(len(across.starts))], across.total(), down.total()
    flight: NDArray[np.float64] | None = None
    for number, top in enumerate(down.starts):
        band = _band(rows, top, shape, (down.tile, across.length))
        weights = down.weights(number)
        for place, left in enumerate(across.starts):
            part = logits(np.ascontiguousarray(band[:, left : left + across.tile])[None])  # (classes, h, w)
            if flight is None:
                flight = np.zeros((part.shape[0], down.tile, across.length))
            flight[:, :, left : left + across.tile] += part * (weights[:, None] * columns[place])
            if progress is not None:
                progress(number * len(across.starts) + place + 1, len(down.starts) * len(across.starts))
        assert flight is not None  # there is always a tile
        last = number + 1 == len(down.starts)
        done = down.tile if last else down.starts[number + 1] - top
        height = min(done, shape[0] - top)
        yield top, _mean(flight[:, :height, : shape[1]], lines[top : top + height, None], counts[: shape[1]])
        flight[:, : down.tile - done] = flight[:, done:]
        flight[:, down.tile - done :] = 0


def _mean(summed: NDArray[np.float64], lines: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float32]:
    """(classes, rows, W) sums over their weights, some columns at a time: float64 of a whole row of tiles is large."""
    mean = np.empty(summed.shape, np.float32)
    for left in range(0, summed.shape[2], COLUMNS):
        part = slice(left, left + COLUMNS)
        mean[..., part] = summed[..., part] / (lines * counts[part])
    return mean


def _band(rows: Rows, top: int, shape: tuple[int, int], size: tuple[int, int]) -> NDArray[np.uint8]:
    """(tile height, padded width, C): rows from `top` on, mirrored beyond the image's end."""
    bottom = min(top + size[0], shape[0])
    below, right = top + size[0] - bottom, size[1] - shape[1]
    if not below and not right:
        return rows(top, bottom)
    first = max(0, bottom - max(below, bottom - top))  # enough rows to mirror, though the tile begins later
    inner = rows(first, bottom)
    padded = cv2.copyMakeBorder(inner, 0, below, 0, right, cv2.BORDER_REFLECT)
    return np.asarray(padded, np.uint8).reshape(*padded.shape[:2], -1)[top - first :]


def tiled_logits(
    frame: NDArray[np.uint8],
    tile_height: int,
    tile_width: int,
    overlap: float,
    logits: Logits,
    *,
    margin: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """(H, W, C) frame -> (classes, H, W) logits, all of them at once. See tiled_rows."""
    height, width = frame.shape[:2]
    parts = tiled_rows(
        lambda top, bottom: frame[top:bottom],
        (height, width),
        (tile_height, tile_width),
        logits,
        overlap=overlap,
        margin=margin,
        progress=progress,
    )
    return np.concatenate([part for _, part in parts], axis=1)
