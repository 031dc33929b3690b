"""`edge-unet quantize --ptq`: an fp32 checkpoint and calibration frames -> a quantized checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError, require
from edge_unet.core.recipe import QuantizeSpec, Recipe
from edge_unet.core.registry import nearest

OBSERVERS = ("minmax", "percentile", "entropy", "mse")


def quantize_checkpoint(
    checkpoint: Path,
    out: Path,
    data: Path | None,
    observer: str | None,
    calibration: Path | None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Write a PTQ checkpoint; returns its path, hash and what it was calibrated on.

    Frames come from the calibration manifest, else from the train split of `data`, else of the checkpoint's recipe.
    Raises UsageError for a wrong observer, fewer than 32 images or the validation split.
    """
    if observer is not None and observer not in OBSERVERS:
        raise UsageError(f"unknown observer {observer!r}; {nearest(observer, OBSERVERS)}")
    require("torch", "train")
    from edge_unet.models.checkpoint import load_checkpoint, save_checkpoint
    from edge_unet.quantization.ptq import quantize_ptq

    source = load_checkpoint(checkpoint)
    recipe = source.info.recipe
    values = recipe.quantize.model_dump() | ({"observer": observer} if observer else {})
    spec = QuantizeSpec.model_validate(values)
    frames, digest, name = _frames(recipe, data, calibration, spec.calibration_images)
    say(f"calibrating with the {spec.observer} observer on {len(frames)} images of {name}")
    net, info = quantize_ptq(source, frames, spec, calibration_sha256=digest)
    sha = save_checkpoint(out, info, net.state_dict())
    say(f"{out}: {info.kind} checkpoint")
    return {"checkpoint": str(out), "sha256": sha, "observer": spec.observer, "images": len(frames), "data": name}


def _frames(
    recipe: Recipe, data: Path | None, calibration: Path | None, count: int
) -> tuple[NDArray[np.uint8], str | None, str]:
    """Calibration frames at the network's size, the hash of their set where it has one, and their name."""
    from edge_unet.data.calibration_set import read_calibration_set
    from edge_unet.data.open import open_data
    from edge_unet.frames import resize_frame
    from edge_unet.pipeline.train import Overrides, apply

    dataset = open_data(apply(recipe, Overrides(data=data)), "train")
    if calibration is not None:
        chosen = read_calibration_set(calibration)
        return chosen.frames(dataset, recipe.preprocess), chosen.sha256, chosen.name
    if len(dataset) < count:
        raise UsageError(f"{dataset.name}: {len(dataset)} training images; calibration needs {count} (at least 32)")
    picks = np.random.default_rng(recipe.seed).permutation(len(dataset))[:count]
    frames = np.stack([resize_frame(dataset.load(int(i))[0], recipe.preprocess) for i in sorted(picks)])
    return frames, None, dataset.name
