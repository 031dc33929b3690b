"""A small model that was really trained, and its data: dark discs on a bright noisy ground, learnt in seconds.

Its masks are clear, as those of a trained model are, so that the gates of verify mean what they mean to a user.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.frames import write_png

SIZE = 64
RECIPE = """
name = "discs"
licence = "CC0-1.0"
[model]
name = "unet"
base = 8
depth = 2
[preprocess]
height = 64
width = 64
[train]
epochs = 6
batch = 8
warmup_epochs = 0.5
learning_rate = 1e-2
ema_decay = 0.8
amp = "off"
validate_every = 3
[quantize]
calibration_images = 32
observer = "minmax"
[quantize.qat]
epochs = 1
batch = 8
learning_rate = 1e-4
warmup_epochs = 0.1
"""


@dataclass(frozen=True)
class Road:
    """What a user has after training: `data` with train/ and val/, the recipe, an fp32 and a PTQ checkpoint."""

    data: Path
    recipe: Path
    fp32: Path
    ptq: Path


def quiet(line: str) -> None:
    """A say that says nothing."""


def disc(
    rng: np.random.Generator, height: int = SIZE, width: int = SIZE
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(H, W, 3) RGB picture and its (H, W) mask of 0 and 255."""
    mask = np.zeros((height, width), np.uint8)
    center = tuple(int(v) for v in rng.integers((width // 4, height // 4), (3 * width // 4, 3 * height // 4)))
    cv2.circle(mask, center, int(rng.integers(min(height, width) // 8, min(height, width) // 4)), 255, -1)
    frame = np.where(mask[..., None] > 0, (150, 50, 60), (190, 170, 160)) + rng.normal(0, 12, (height, width, 3))
    return np.clip(frame, 0, 255).astype(np.uint8), mask


def write_pairs(folder: Path, count: int, seed: int) -> Path:
    """`count` pictures and masks in folder/images and folder/masks."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        frame, mask = disc(rng)
        write_png(folder / f"images/{number:03d}.png", frame)
        write_png(folder / f"masks/{number:03d}.png", mask)
    return folder


@functools.cache
def make_bundles(base: Path) -> dict[str, Path]:
    """Target name -> its INT8 bundle of the PTQ checkpoint. To be copied before anything is changed in it."""
    from edge_unet.pipeline.export import export, resolve_targets

    road = make_road(base)
    bundles = export(road.ptq, resolve_targets("all"), road.ptq.parent / "bundles", say=quiet)
    return {bundle.manifest.artifact.target: bundle.folder for bundle in bundles}


@functools.cache
def make_road(base: Path) -> Road:
    """Write the data, train a float network on it and calibrate it. Once for each `base`."""
    from edge_unet.pipeline.quantize import quantize_checkpoint
    from edge_unet.pipeline.train import Overrides, run_training

    room = base / "road"
    write_pairs(room / "data/train", 40, 1)
    write_pairs(room / "data/val", 8, 2)
    recipe = room / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    overrides = Overrides(data=room / "data")
    run_training(recipe, room / "run", overrides, phase="fp32", say=quiet)
    fp32, ptq = room / "run/fp32.safetensors", room / "ptq.safetensors"
    quantize_checkpoint(fp32, ptq, None, None, None, say=quiet)
    return Road(room / "data", recipe, fp32, ptq)
