"""Post-training quantization: the quick path, and where QAT starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from edge_unet import __version__
from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import QuantizeSpec
from edge_unet.core.spec import PreprocessSpec
from edge_unet.models.checkpoint import Checkpoint, CheckpointInfo
from edge_unet.quantization.calibrate import calibrate
from edge_unet.quantization.restore import build_quantized, restore

BATCH = 8


def quantize_ptq(
    checkpoint: Checkpoint, frames: NDArray[np.uint8], spec: QuantizeSpec, *, calibration_sha256: str | None = None
) -> tuple[fx.GraphModule, CheckpointInfo]:
    """Quantize a float checkpoint with `frames` (N, h, w, C) u8 at the recipe's size, in its colour order.

    `calibration_sha256` is the calibration set's own hash; without one the pixels are hashed.
    Raises UsageError for a checkpoint that is already quantized or frames of another shape.
    """
    if checkpoint.info.kind != "fp32":
        raise UsageError(f"expected an fp32 checkpoint to quantize, received one of kind {checkpoint.info.kind!r}")
    recipe = checkpoint.info.recipe.model_copy(update={"quantize": spec})
    restore(checkpoint)  # refuses weights that do not fit, in words
    net = build_quantized(recipe, checkpoint.state)
    calibrate(net, frame_batches(frames, recipe.preprocess), spec.observer, spec.percentile)
    info = CheckpointInfo(
        kind="ptq",
        recipe=recipe,
        data_sha256=checkpoint.info.data_sha256,
        calibration_sha256=calibration_sha256 or hashlib.sha256(frames.tobytes()).hexdigest(),
        parent_sha256=checkpoint.sha256,
        versions={"edge_unet": __version__, "torch": torch.__version__},
    )
    return net, info


def frame_batches(frames: NDArray[np.uint8], preprocess: PreprocessSpec, batch: int = BATCH) -> Iterator[Tensor]:
    """(N, h, w, C) u8 frames -> batches (n, C, h, w) of the real input. Raises UsageError on another shape."""
    expected = (preprocess.height, preprocess.width, preprocess.channels)
    if frames.ndim != 4 or frames.shape[1:] != expected or frames.dtype != np.uint8:
        raise UsageError(
            f"calibration frames: expected uint8 (N, {', '.join(map(str, expected))}), "
            f"received {frames.dtype} {frames.shape}; resize them with frames.resize_frame"
        )
    for start in range(0, len(frames), batch):
        real = preprocess.normalize(frames[start : start + batch])
        yield torch.from_numpy(real).permute(0, 3, 1, 2).contiguous()  # (n, C, h, w)
