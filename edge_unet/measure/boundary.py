"""Boundary F1: do the outlines lie in the same place? Dice hardly sees an outline that is a few pixels off.

Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013: precision is the share of
the predicted outline that lies within a tolerance of the true outline, recall the share of the true outline that lies
within the tolerance of the predicted one.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.core.spec import ClassSpec
from edge_unet.frames.distance import distance_to

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
_SQUARE = np.ones((3, 3), np.uint8)


def outline(region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(H, W) pixels of the region that have one of their four neighbours outside it.

    The image border is no outline: what is cut off there continues outside the picture.
    """
    filled = region.astype(np.uint8)
    return np.asarray(region & (cv2.erode(filled, _CROSS) == 0))


def boundary_f1(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: ClassSpec, tolerance_px: int = 2
) -> float:
    """Boundary F1 of one image, both (H, W) class ids, 0..1.

    `tolerance_px` is a Euclidean distance between pixel centres, inclusive. Binary: the foreground class; several
    classes: mean over the classes that occur in truth or prediction. A class without an outline in both counts 1,
    with an outline in one only 0. Outline pixels that touch ignored pixels count nowhere.
    """
    ignored = np.zeros(truth.shape, bool) if classes.ignore_value is None else truth == classes.ignore_value
    blind = cv2.dilate(ignored.astype(np.uint8), _SQUARE) > 0
    scores = []
    for index in range(1 if len(classes.names) == 2 else 0, len(classes.names)):
        is_predicted, is_true = (predicted == index) & ~ignored, truth == index
        if len(classes.names) > 2 and not (is_predicted.any() or is_true.any()):
            continue
        scores.append(_f1(outline(is_predicted) & ~blind, outline(is_true) & ~blind, tolerance_px))
    return float(np.mean(scores)) if scores else 1.0


def _f1(predicted: NDArray[np.bool_], truth: NDArray[np.bool_], tolerance_px: int) -> float:
    if not predicted.any() and not truth.any():
        return 1.0
    if not predicted.any() or not truth.any():
        return 0.0
    precision = float((distance_to(truth)[predicted] <= tolerance_px).mean())
    recall = float((distance_to(predicted)[truth] <= tolerance_px).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0
