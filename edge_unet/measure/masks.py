"""From a frame at the input's size to logits and a mask, for any session, whatever it takes and gives."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.core.protocols import Session
from edge_unet.core.spec import PreprocessSpec, Tensors, feed_from_pixels, logits_from_output, mask_from_logits


def feeds_of(session: Session, frame: NDArray[np.uint8], preprocess: PreprocessSpec) -> Tensors:
    """(h, w, C) u8 frame -> the feeds of the session's only input."""
    spec = session.artifact.inputs[0]
    return {spec.name: feed_from_pixels(frame[None], spec, preprocess)}  # (1, h, w, C) or (1, C, h, w)


def logits_of(session: Session, frame: NDArray[np.uint8], preprocess: PreprocessSpec) -> NDArray[np.float32]:
    """(h, w, C) u8 frame -> (1, classes, h, w) float32 logits."""
    outputs = session.infer(feeds_of(session, frame, preprocess))
    spec = session.artifact.outputs[0]
    return logits_from_output(outputs[spec.name], spec)


def predictor(session: Session, preprocess: PreprocessSpec) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """A function (h, w, C) u8 frame -> (h, w) class ids, for measure.quality.evaluate."""

    def predict(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.asarray(mask_from_logits(logits_of(session, frame, preprocess))[0])  # (h, w)

    return predict


def check_frames(frames: NDArray[np.uint8], truths: NDArray[np.uint8] | None, preprocess: PreprocessSpec) -> None:
    """Raise UsageError unless frames are (N >= 1, height, width, C) u8 and truths, if given, (N, height, width) u8."""
    expected = (preprocess.height, preprocess.width, preprocess.channels)
    if frames.ndim != 4 or frames.shape[1:] != expected or frames.dtype != np.uint8 or len(frames) == 0:
        raise UsageError(
            f"frames: expected at least one uint8 picture of shape {expected}, received {frames.dtype} "
            f"{frames.shape}; resize them with frames.resize_frame"
        )
    if truths is not None and (truths.shape != frames.shape[:3] or truths.dtype != np.uint8):
        raise UsageError(
            f"truths: expected uint8 {frames.shape[:3]}, one mask for each frame, received {truths.dtype} "
            f"{truths.shape}; resize them with frames.resize_labels"
        )
