"""A streaming confusion matrix over images: Dice and IoU with a plain threshold, never min-max rescaled.

Per-image mean for binary masks (mDice, mIoU of the polyp literature), pooled per-class IoU for multi-class
(mIoU of the road literature). Ignored pixels count nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass
class Confusion:
    """Counts over a set of images. `classes` >= 2; class 0 is the background of a binary mask."""

    classes: int
    ignore_value: int | None = None
    matrix: NDArray[np.int64] = field(init=False)
    """matrix[t, p]: pixels of true class t predicted as p, over all images."""
    image_dice: list[float] = field(default_factory=list)
    image_iou: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.matrix = np.zeros((self.classes, self.classes), np.int64)

    def add(self, predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Count one image, both (H, W) class ids. An image whose class is absent in both scores 1 for it."""
        keep = np.ones(truth.shape, bool) if self.ignore_value is None else truth != self.ignore_value
        index = truth[keep].astype(np.int64) * self.classes + predicted[keep]
        counts = np.bincount(index, minlength=self.classes**2).reshape(self.classes, self.classes)
        self.matrix += counts
        dice, iou = _dice_and_iou(counts)
        first = 1 if self.classes == 2 else 0
        self.image_dice.append(float(np.nanmean(np.nan_to_num(dice[first:], nan=1.0))))
        self.image_iou.append(float(np.nanmean(np.nan_to_num(iou[first:], nan=1.0))))

    @property
    def images(self) -> int:
        """Number of images counted."""
        return len(self.image_dice)

    def dice(self) -> float:
        """Binary: mean over images of the foreground Dice. Multi-class: mean over classes, pooled pixels."""
        return self._score(self.image_dice, _dice_and_iou(self.matrix)[0])

    def iou(self) -> float:
        """Binary: mean over images of the foreground IoU. Multi-class: mIoU over classes, pooled pixels."""
        return self._score(self.image_iou, _dice_and_iou(self.matrix)[1])

    def per_class_iou(self) -> list[float | None]:
        """Pooled IoU of every class; None where the class occurs neither in truth nor in prediction."""
        return [None if np.isnan(v) else float(v) for v in _dice_and_iou(self.matrix)[1]]

    def _score(self, per_image: list[float], per_class: NDArray[np.float64]) -> float:
        if not per_image:
            raise ValueError("no image was counted")
        return float(np.mean(per_image)) if self.classes == 2 else float(np.nanmean(per_class))


def _dice_and_iou(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per-class Dice and IoU of a confusion matrix; NaN where a class is absent from both."""
    hit = np.diag(counts).astype(np.float64)
    total = counts.sum(0) + counts.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * hit / total, hit / (total - hit)
