# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""From an output to a mask, as core.spec does it, and how much of a golden mask it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .job import Golden, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray  # newer than the numpy of some devices


def mask_of(output: NDArray[Any], spec: Tensor) -> NDArray[np.uint8]:
    """The raw array of the output -> (H, W) class ids: core.spec.logits_from_output and mask_from_logits."""
    if spec.scale is not None and spec.dtype.startswith("float"):
        step = np.float32(spec.scale)
        real = np.clip(np.rint(output.astype(np.float32) / step), -128, 127) * step
    elif spec.scale is not None and spec.zero_point is not None:
        real = (output.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)
    else:
        real = output.astype(np.float32)
    logits = real if spec.layout == "NCHW" else real.transpose(0, 3, 1, 2)  # (1, C, H, W)
    if logits.shape[1] == 1:
        return np.asarray(logits[0, 0] > 0, np.uint8)  # (H, W)
    return np.asarray(logits[0].argmax(axis=0), np.uint8)  # (H, W)


def agreement(infer: Callable[[NDArray[Any]], NDArray[Any]], golden: Golden, spec: Tensor) -> float:
    """Share of a golden mask's pixels that the artifact gives here."""
    expected = np.load(str(golden.mask))
    received = mask_of(infer(np.load(str(golden.feed))), spec)
    if received.shape != expected.shape:
        return 0.0
    return float((received == expected).mean())
