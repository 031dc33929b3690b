"""Dice, IoU and boundary F1 of anything that makes masks, against true masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.confusion import Confusion
from edge_unet.core.errors import UsageError
from edge_unet.core.report import EvaluateResult
from edge_unet.core.spec import ClassSpec
from edge_unet.core.subject import Subject
from edge_unet.measure.boundary import boundary_f1

Images = Sequence[NDArray[np.uint8]] | NDArray[np.uint8]


def evaluate(
    predict: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
    frames: Images,
    truths: Images,
    classes: ClassSpec,
    *,
    boundary_tolerance_px: int = 2,
    subject: Subject | None = None,
) -> EvaluateResult:
    """Run `predict` ((h, w, C) u8 -> (h, w) class ids) over all frames and score it against `truths` ((h, w) ids).

    Dice and IoU are those of core.confusion (binary: mean over images of the foreground; several classes: mean over
    classes of the pooled pixels); boundary F1 is the mean over images. Raises UsageError where there is no frame,
    frames and truths differ in number, or a mask in size.
    """
    if len(frames) == 0 or len(frames) != len(truths):
        raise UsageError(f"evaluate: {len(frames)} frames and {len(truths)} truths; expected as many, at least one")
    counts = Confusion(len(classes.names), classes.ignore_value)
    boundaries = []
    for number, (frame, truth) in enumerate(zip(frames, truths, strict=True)):
        predicted = predict(frame)
        if predicted.shape != truth.shape:
            raise UsageError(f"evaluate: image {number}: mask {predicted.shape} but truth {truth.shape}")
        counts.add(predicted, truth)
        boundaries.append(boundary_f1(predicted, truth, classes, boundary_tolerance_px))
    return EvaluateResult(
        dice=counts.dice(),
        iou=counts.iou(),
        per_class=dict(zip(classes.names, counts.per_class_iou(), strict=True)),
        images=counts.images,
        boundary_f1=float(np.mean(boundaries)),
        boundary_tolerance_px=boundary_tolerance_px,
        subject=subject,
    )
