"""A recipe and data small enough to train in a second."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_unet.core.recipe import AugmentSpec, DataSpec, ModelSpec, QuantizeSpec, Recipe, TrainSpec
from edge_unet.core.spec import ClassSpec, PreprocessSpec


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Squares:
    """Pictures of one square each on noise; its colour is its class. 64x64."""

    classes: ClassSpec
    count: int
    seed: int
    name: str = "squares"

    def __len__(self) -> int:
        return self.count

    @property
    def names(self) -> Sequence[str]:
        return [f"{self.seed}/{index}" for index in range(self.count)]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        rng = np.random.default_rng((self.seed, index))
        frame = rng.integers(90, 110, (64, 64, 3)).astype(np.uint8)
        mask = np.zeros((64, 64), np.uint8)
        kind = 1 + index % (len(self.classes.names) - 1)
        top, left = rng.integers(4, 28, 2)
        frame[top : top + 28, left : left + 28, kind - 1] = 220
        mask[top : top + 28, left : left + 28] = kind
        return frame, mask


@pytest.fixture
def recipe() -> Recipe:
    """Binary, 64x64, 3 epochs of 6 batches."""
    return Recipe(
        name="tiny",
        seed=3,
        model=ModelSpec(width=0.25, depth=3),
        preprocess=PreprocessSpec(height=64, width=64),
        data=DataSpec(scene_count=48),
        augment=AugmentSpec(),
        train=TrainSpec(stages=((32, 1), (64, 2)), batch=8, learning_rate=1e-2, warmup_epochs=1, ema_decay=0.9),
        quantize=QuantizeSpec(
            calibration_images=32, qat=TrainSpec(epochs=1, batch=8, learning_rate=1e-3, warmup_epochs=0, ema_decay=0.9)
        ),
    )


@pytest.fixture
def squares(recipe: Recipe) -> tuple[Squares, Squares]:
    """Training and validation data of the binary recipe."""
    return Squares(recipe.classes, 48, 0), Squares(recipe.classes, 16, 1)


@pytest.fixture
def squares3() -> tuple[Squares, Squares]:
    """Training and validation data of three classes."""
    classes = ClassSpec(
        names=("background", "red", "green"), palette=((0, 0, 0), (255, 0, 0), (0, 255, 0)), ignore_value=9
    )
    return Squares(classes, 48, 0), Squares(classes, 16, 1)
