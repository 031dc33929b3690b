"""Small folders of images and masks, written for each test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_unet.core.recipe import DataSpec, Recipe
from edge_unet.core.spec import ClassSpec, PreprocessSpec
from edge_unet.frames import write_png


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(preprocess=PreprocessSpec(height=64, width=64), data=DataSpec(split=0.25))


@pytest.fixture
def three_classes() -> ClassSpec:
    return ClassSpec(names=("sky", "road", "car"), palette=((0, 0, 255), (90, 90, 90), (255, 0, 0)), ignore_value=11)


def _write_pair(folder: Path, stem: str, mask: NDArray[np.uint8], frame: NDArray[np.uint8] | None = None) -> None:
    """One pair as PNG; without a frame, noise of the mask's size."""
    for part in ("images", "masks"):
        (folder / part / stem).parent.mkdir(parents=True, exist_ok=True)
    if frame is None:
        frame = np.random.default_rng(len(stem)).integers(0, 256, (*mask.shape, 3), np.uint8)
    write_png(folder / "images" / f"{stem}.png", frame)
    write_png(folder / "masks" / f"{stem}.png", mask)


@pytest.fixture
def write_pair() -> Callable[..., None]:
    """write_pair(folder, stem, mask, frame=None): one pair into images/ and masks/."""
    return _write_pair


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write `count` pairs of 40x32 pixels with the given label values into a new folder."""

    def make(name: str = "set", *, count: int = 8, labels: tuple[int, ...] = (0, 255), below: str = "") -> Path:
        folder = tmp_path / name
        rng = np.random.default_rng(count)
        for index in range(count):
            _write_pair(folder / below, f"p{index // 2}_f{index}", rng.choice(np.array(labels, np.uint8), (32, 40)))
        return folder

    return make
