"""Frames to calibrate, verify and time with: the user's validation split, or the procedural scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import DataSpec, Recipe
from edge_unet.core.spec import ClassSpec, PreprocessSpec

SCENES = 32
GOLDEN = 4
GOLDEN_SEED = 20260
Scene = Literal["endoscopy", "lanes"]


@dataclass(frozen=True)
class FrameSet:
    """Frames at the network's input size. `truths` is None where the masks belong to other classes than the model's."""

    frames: NDArray[np.uint8]  # (N, h, w, C)
    truths: NDArray[np.uint8] | None  # (N, h, w) class ids
    name: str
    sha256: str


def frames_from(
    data: Path | None,
    preprocess: PreprocessSpec,
    classes: ClassSpec,
    limit: int | None = None,
    scene: Scene = "endoscopy",
) -> FrameSet:
    """The val split of `data`, or 32 procedural scenes. Raises DataError naming every bad file."""
    from edge_unet.data.cache import load_resized
    from edge_unet.data.open import open_data

    if data is None:
        return scenes(preprocess, scene, limit or SCENES)
    if not data.is_dir():
        raise UsageError(f"{data}: no such folder; expected one with images/ and masks/, or val/ with both")
    recipe = Recipe(preprocess=preprocess, classes=classes, data=DataSpec(train=(str(data.resolve()),)))
    dataset = open_data(recipe, "val", data)
    frames, truths = load_resized(dataset, preprocess)
    return FrameSet(frames[:limit], truths[:limit], dataset.name, dataset.sha256)


def scenes(preprocess: PreprocessSpec, kind: Scene, count: int, seed: int = GOLDEN_SEED) -> FrameSet:
    """Procedural scenes, seeded. Their masks are of the scenes' own classes, so there are no truths."""
    from edge_unet.data.cache import load_resized
    from edge_unet.data.scenes import SceneDataset

    dataset = SceneDataset(kind, count, seed, preprocess.height, preprocess.width, color_order=preprocess.color_order)
    name = f"{count} procedural {kind} scenes, seed {seed}"
    return FrameSet(load_resized(dataset, preprocess)[0], None, name, dataset.sha256)
