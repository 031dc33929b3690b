"""Folders of images without masks: all that learning from pictures alone needs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import DataError
from edge_unet.core.files import sha256_of
from edge_unet.core.recipe import Recipe
from edge_unet.core.spec import ClassSpec
from edge_unet.data.datasets import Dataset, JoinedDataset, content_hash
from edge_unet.data.folders import IMAGE_SUFFIXES
from edge_unet.data.open import ROOT_VARIABLE, open_data
from edge_unet.frames import read_frame
from edge_unet.frames.files import ColorOrder


@dataclass(frozen=True, slots=True)
class Pictures:
    """Image files that were all opened once; every pixel is of the first class."""

    name: str
    classes: ClassSpec
    sha256: str
    files: tuple[tuple[str, Path], ...]
    color_order: ColorOrder

    @property
    def names(self) -> Sequence[str]:
        """Path of each image below the data root."""
        return tuple(name for name, _ in self.files)

    def __len__(self) -> int:
        return len(self.files)

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frame (H, W, C) u8 and mask (H, W) u8 of zeros. Raises DataError where a file was changed since."""
        frame = read_frame(self.files[index][1], self.color_order)
        return frame, np.zeros(frame.shape[:2], np.uint8)

    def frame_sha256(self, index: int) -> str:
        """Of the image file. Raises DataError where it cannot be read any more."""
        return _hash(self.files[index][1])


def open_pictures(recipe: Recipe, root: Path | None = None) -> Dataset:
    """What the self-supervised warm-up learns from: the training images of the recipe and those of pretrain.images.

    Of a folder with splits only train/ is read: what is measured on is never learnt from.
    Raises DataError with all files that are not images, and where a folder holds none.
    """
    base = root or Path(os.environ.get(ROOT_VARIABLE, "."))
    parts = [_open(base / entry, entry, recipe) for entry in recipe.pretrain.images]
    return JoinedDataset([open_data(recipe, "train", root), *parts]) if parts else open_data(recipe, "train", root)


def _open(folder: Path, entry: str, recipe: Recipe) -> Pictures:
    """The images of one folder."""
    name = folder.name if Path(entry).is_absolute() else Path(entry).as_posix()
    places = (folder / "train" / "images", folder / "images", folder)
    place = next((place for place in places if place.is_dir()), None)
    if place is None:
        raise DataError(f"{folder}: no such folder; expected one of images (pretrain.images)")
    found = [path for path in sorted(place.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    if not found:
        raise DataError(f"{place}: no images; expected {', '.join(IMAGE_SUFFIXES)} (pretrain.images)")
    order = recipe.preprocess.color_order
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        offenders = [line for line in pool.map(lambda path: _fault(path, order), found) if line]
    if offenders:
        raise DataError(f"{place}: {len(offenders)} files cannot be read (pretrain.images)", offenders)
    files = tuple((f"{name}/{path.relative_to(place).as_posix()}", path) for path in found)
    return Pictures(name, recipe.classes, content_hash((key, _hash(path)) for key, path in files), files, order)


def _fault(path: Path, order: ColorOrder) -> str:
    """Why an image cannot be read; empty where it can."""
    try:
        read_frame(path, order)
    except DataError as error:
        return str(error)
    return ""


def _hash(path: Path) -> str:
    """sha256 of a file."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
