"""Folders of images/ and masks/ as datasets, checked whole when they are opened.

Layouts: `path/{train,val}/{images,masks}`, or `path/{images,masks}`. A mask has the stem of its image and holds one
8-bit label per pixel: 0 and 1 or 0 and 255 where the recipe is binary, class ids where it is not.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import DataError
from edge_unet.core.files import sha256_of
from edge_unet.core.recipe import Recipe
from edge_unet.core.spec import ClassSpec
from edge_unet.data.class_names import read_classes
from edge_unet.data.datasets import Split, content_hash
from edge_unet.data.splits import split_groups
from edge_unet.frames import read_frame, read_mask
from edge_unet.frames.files import ColorOrder

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
MASK_SUFFIXES = (".png", ".bmp")
"""Lossless ones only: JPEG invents labels along every edge."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its mask; `name` is the image's path below the data root."""

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True, slots=True)
class FolderDataset:
    """Pairs of files that were all opened once and found usable."""

    name: str
    classes: ClassSpec
    sha256: str
    pairs: tuple[Pair, ...]
    color_order: ColorOrder

    @property
    def names(self) -> Sequence[str]:
        """Path of each image below the data root."""
        return tuple(pair.name for pair in self.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frame (H, W, C) u8 and mask (H, W) u8 of class ids. Raises DataError where a file was changed since."""
        pair = self.pairs[index]
        return read_frame(pair.image, self.color_order), class_ids(read_mask(pair.mask), self.classes, pair.mask)

    def frame_sha256(self, index: int) -> str:
        """Of the image file. Raises DataError where it cannot be read any more."""
        return _hash(self.pairs[index].image)


def open_folder(path: Path, split: Split | Literal["all"], recipe: Recipe, *, name: str | None = None) -> FolderDataset:
    """Open one split of a folder and check every pair in it.

    `path/<split>` where the folder has train/ and val/. Where it has only train/, or images/ and masks/ directly, the
    groups of `recipe.data.group_pattern`, searched in the path below images/, are split by seed. "all" takes a folder
    of images/ and masks/ whole. `name` is what frames are named below (default: the folder's own name).
    Raises DataError with all offenders: unreadable or RGBA files, images without mask, masks without image, sizes that
    differ, unknown labels.
    """
    folder_name = name or path.name
    part, cut = _locate(path, split)
    _check_classes(path, recipe.classes)
    pairs, offenders = _pair(part, f"{folder_name}{'' if part == path else '/' + part.name}")
    if cut is not None and not offenders:
        train, val = split_groups(
            tuple(pairs), share=recipe.data.split, seed=recipe.seed, pattern=recipe.data.group_pattern
        )
        pairs = {key: pairs[key] for key in (train if cut == "train" else val)}
    order = recipe.preprocess.color_order
    # Decoding releases the interpreter lock, so threads halve the wait on two cores.
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        inspected = list(pool.map(lambda pair: _inspect(pair, recipe.classes, order), pairs.values()))
    offenders += [line for lines, _ in inspected for line in lines]
    if offenders:
        raise DataError(f"{part}: {len(offenders)} things are wrong with this dataset", offenders)
    digest = content_hash((key, file_hash) for key, (_, file_hash) in zip(pairs, inspected, strict=True))
    return FolderDataset(folder_name, recipe.classes, digest, tuple(pairs.values()), order)


def class_ids(mask: NDArray[np.uint8], classes: ClassSpec, path: Path) -> NDArray[np.uint8]:
    """Stored label values (H, W) -> class ids (H, W); the ignore value stays. Raises DataError on any other value."""
    found = {int(value) for value in np.flatnonzero(np.bincount(mask.ravel(), minlength=256))}
    labels = found - {classes.ignore_value}
    if classes.channels == 1 and 255 in labels and labels <= {0, 255}:
        return np.where(mask == 255, np.uint8(1), mask).astype(np.uint8)
    if labels and max(labels) >= len(classes.names):
        expected = "0 and 1, or 0 and 255" if classes.channels == 1 else f"0 to {len(classes.names) - 1}"
        ignore = "" if classes.ignore_value is None else f" and {classes.ignore_value} to ignore"
        unknown = sorted(labels) if classes.channels == 1 else sorted(v for v in labels if v >= len(classes.names))
        shown = ", ".join(map(str, unknown[:8])) + (", ..." if len(unknown) > 8 else "")
        raise DataError(f"{path}: unknown labels: found {shown}; expected {expected}{ignore}")
    return mask


def _locate(path: Path, split: Split | Literal["all"]) -> tuple[Path, Split | None]:
    """The folder that holds images/ and masks/, and which part of it to cut out, if any."""
    if (path / "images").is_dir():
        return path, None if split == "all" else split
    if split != "all" and (path / split / "images").is_dir():
        # Without a val/ of its own, validation is cut out of train/, and training must leave it out.
        return path / split, None if (path / "val" / "images").is_dir() else split
    if split == "val" and (path / "train" / "images").is_dir():
        return path / "train", "val"
    raise DataError(
        f"{path}: no {'' if split == 'all' else split + '/images/ or '}images/ in this folder; "
        "expected train/ and val/ with images/ and masks/ in each, or images/ and masks/"
    )


def _check_classes(path: Path, classes: ClassSpec) -> None:
    """A classes.txt beside the splits must say what the recipe says. Binary recipes have no ids to confuse."""
    listed = next((p / "classes.txt" for p in (path, path.parent) if (p / "classes.txt").is_file()), None)
    if listed is None:
        return
    known = read_classes(listed)
    if (tuple(map(str.lower, known.names)), known.ignore_value) != (
        tuple(map(str.lower, classes.names)),
        classes.ignore_value,
    ):
        raise DataError(
            f"{listed}: the classes are not the recipe's; set classes.names, palette and ignore_value in the recipe",
            (
                f"file: {', '.join(known.names)}; ignore_value {known.ignore_value}",
                f"recipe: {', '.join(classes.names)}; ignore_value {classes.ignore_value}",
            ),
        )


def _pair(folder: Path, prefix: str) -> tuple[dict[str, Pair], list[str]]:
    """Image path below images/ -> pair, sorted, and one line per file that is not half of exactly one pair."""
    if not (folder / "masks").is_dir():
        raise DataError(f"{folder}: no masks/ beside images/; expected a mask of the same stem for each image")
    offenders: list[str] = []
    images = _by_stem(folder / "images", IMAGE_SUFFIXES, offenders)
    masks = _by_stem(folder / "masks", MASK_SUFFIXES, offenders)
    offenders += [f"{images[stem]}: image without a mask" for stem in images if stem not in masks]
    offenders += [f"{masks[stem]}: mask without an image" for stem in masks if stem not in images]
    pairs = {}
    for stem in sorted(images.keys() & masks.keys()):
        relative = images[stem].relative_to(folder / "images").as_posix()
        pairs[relative] = Pair(f"{prefix}/images/{relative}", images[stem], masks[stem])
    if not pairs and not offenders:
        raise DataError(f"{folder}: images/ and masks/ are empty; expected at least one pair")
    return pairs, offenders


def _by_stem(folder: Path, suffixes: Sequence[str], offenders: list[str]) -> Mapping[str, Path]:
    """Stem below `folder` -> file. Hidden files (a file manager's own) are passed over."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in sorted(folder.rglob("*")):
        if not file.is_file() or file.name.startswith(".") or file.name == "Thumbs.db":
            continue
        if file.suffix.lower() not in suffixes:
            offenders.append(f"{file}: not a file type for {folder.name}/; expected {', '.join(suffixes)}")
        else:
            found[file.relative_to(folder).with_suffix("").as_posix()].append(file)
    offenders += [f"{files[1]}: same stem as {files[0].name}" for files in found.values() if len(files) > 1]
    return {stem: files[0] for stem, files in found.items()}


def _inspect(pair: Pair, classes: ClassSpec, order: ColorOrder) -> tuple[list[str], str]:
    """What is wrong with a pair, and the hash of its two files."""
    offenders: list[str] = []
    sizes: list[tuple[int, ...]] = []
    try:
        sizes.append(read_frame(pair.image, order).shape[:2])
    except DataError as error:
        offenders.append(str(error))
    try:
        mask = read_mask(pair.mask)
        sizes.append(mask.shape)
        class_ids(mask, classes, pair.mask)
    except DataError as error:
        offenders.append(str(error))
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        (image_h, image_w), (mask_h, mask_w) = sizes
        offenders.append(f"{pair.mask}: mask is {mask_w}x{mask_h}, its image {image_w}x{image_h}; expected equal sizes")
    if offenders:
        return offenders, ""
    return [], _hash(pair.image) + _hash(pair.mask)


def _hash(path: Path) -> str:
    """sha256 of a file."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise DataError(f"{path}: cannot read: {error.strerror}") from error
