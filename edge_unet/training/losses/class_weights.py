"""Class weights out of the training masks."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def median_frequency(masks: Tensor, classes: int, ignore: int) -> Tensor:
    """(classes,) float32: median of all frequencies over the class's own (Eigen & Fergus 2015, section 6.3.2).

    `masks` (N, H, W) u8. A class's frequency is its share of the known pixels of the images that show it. A class
    that none shows weighs 0: no pixel will ask for it.
    """
    shown, seen = np.zeros(classes), np.zeros(classes)
    for mask in masks.numpy():
        counts = np.bincount(mask.ravel(), minlength=256)
        counts[ignore] = 0
        counts = counts[:classes]
        shown += counts
        seen += np.where(counts > 0, counts.sum(), 0)
    frequency = shown[shown > 0] / seen[shown > 0]
    weights = np.zeros(classes, np.float32)
    weights[shown > 0] = np.median(frequency) / frequency if frequency.size else 0
    return torch.from_numpy(weights)
