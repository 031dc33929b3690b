"""Per-pixel maps that some terms read. They depend on the truth alone: the batch thread makes them while the network
works on the batch before, with opencv on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_unet.core.recipe import LossSpec
from edge_unet.core.registry import registry
from edge_unet.frames.distance import distance_to

Mask = NDArray[np.uint8]
Field = NDArray[np.float32]

REACH = 5.0
"""Sigmas of d1 + d2 beyond which the border weight is left at 0: below w0 * 4e-6."""
STRUCTURE_WINDOW = 31
STRUCTURE_GAIN = 5.0
"""PraNet's window in pixels, and the weight it adds at most."""


def truth_maps(spec: LossSpec, target: Tensor, ignore: int, channels: int) -> dict[str, Tensor]:
    """The maps of the terms in use, by name, for `target` (N, H, W) class ids and `channels` logit channels (1 =
    binary): (N, H, W), of the boundary (N, C, H, W). On the target's device; empty where no term needs any."""
    needed = [name for name in MAPS if name in spec.terms.used]
    if not needed:
        return {}
    masks = target.cpu().numpy().astype(np.uint8)
    made = {name: np.stack([MAPS[name](mask, ignore, channels, spec) for mask in masks]) for name in needed}
    return {name: torch.from_numpy(values).to(target.device) for name, values in made.items()}


def border_map(mask: Mask, ignore: int, channels: int, spec: LossSpec) -> Field:
    """(H, W): w0 * exp(-(d1 + d2)^2 / (2 sigma^2)), d1 and d2 the distances to the nearest two objects (Ronneberger et
    al. 2015, equation 2); 0 inside objects and where there is one object or none.

    An object is an 8-connected region of one class other than the first.
    """
    empty = np.zeros(mask.shape, np.float32)
    boxes = [box for wanted in _shown(mask, ignore) if wanted > 0 for box in _objects(mask == wanted)]
    if len(boxes) < 2 or not spec.border_w0:
        return empty
    reach = math.ceil(REACH * spec.border_sigma)
    first, second = np.full(mask.shape, np.inf, np.float32), np.full(mask.shape, np.inf, np.float32)
    for top, left, inside in boxes:  # each only as far as it counts
        height, width = inside.shape
        around = np.s_[max(0, top - reach) : top + height + reach, max(0, left - reach) : left + width + reach]
        region = np.zeros_like(mask[around], bool)
        row, column = min(top, reach), min(left, reach)
        region[row : row + height, column : column + width] = inside
        away = distance_to(region)
        second[around] = np.minimum(second[around], np.maximum(first[around], away))
        first[around] = np.minimum(first[around], away)
    weight = spec.border_w0 * np.exp(-((first + second) ** 2) / (2 * spec.border_sigma**2))
    near = (first + second <= REACH * spec.border_sigma) & ((mask == 0) | (mask == ignore))
    return np.where(near, weight, empty).astype(np.float32)


def distance_map(mask: Mask, ignore: int, channels: int, spec: LossSpec) -> Field:
    """(C, H, W): signed distance to each class's outline, in heights of the image: outside +d to the nearest pixel of
    the class, inside -(d - 1) to the nearest known pixel of another; 0 where the class is absent or alone."""
    distances = np.zeros((channels, *mask.shape), np.float32)
    known = mask != ignore
    for channel in range(channels):
        inside = mask == (channel if channels > 1 else 1)
        inside &= known
        if not inside.any() or np.array_equal(inside, known):
            continue
        away = distance_to(inside)
        deep = distance_to(known & ~inside)
        distances[channel] = np.where(inside, 1 - deep, away) / len(mask)
    return distances


def structure_map(mask: Mask, ignore: int, channels: int, spec: LossSpec) -> Field:
    """(H, W): 1 + 5 * the share of a 31x31 window that is of another class (PraNet's |average - mask|, which is the
    same number for two classes). Only known pixels count, so the frame's edge is no outline (there PraNet's is)."""
    known = mask != ignore
    same = np.zeros(mask.shape, np.float32)
    for wanted in _shown(mask, ignore):
        inside = mask == wanted
        np.copyto(same, _box(inside), where=inside)
    seen = _box(known)
    return np.where(known, 1 + STRUCTURE_GAIN * (1 - same / np.maximum(seen, 1)), 1).astype(np.float32)


MAPS: Mapping[str, Callable[[Mask, int, int, LossSpec], Field]] = registry(
    (("border_ce", border_map), ("boundary", distance_map), ("structure", structure_map))
)


def _shown(mask: Mask, ignore: int) -> list[int]:
    """The class ids that a mask shows."""
    return [wanted for wanted in np.flatnonzero(np.bincount(mask.ravel())).tolist() if wanted != ignore]


def _box(values: NDArray[np.bool_]) -> Field:
    """(H, W): how many are set in the window around each pixel."""
    size = (STRUCTURE_WINDOW, STRUCTURE_WINDOW)
    summed: Field = cv2.boxFilter(values.astype(np.float32), -1, size, normalize=False, borderType=cv2.BORDER_CONSTANT)
    return summed


def _objects(inside: NDArray[np.bool_]) -> list[tuple[int, int, NDArray[np.bool_]]]:
    """(top, left, pixels within its bounding box) of every 8-connected region."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    found = []
    for number in range(1, count):
        left, top, width, height = (int(v) for v in stats[number, :4])
        found.append((top, left, labels[top : top + height, left : left + width] == number))
    return found
