"""From the data section of a recipe to a dataset."""

from __future__ import annotations

import os
from pathlib import Path

from edge_unet.core.errors import DataError, UsageError
from edge_unet.core.recipe import Recipe
from edge_unet.data.datasets import Dataset, JoinedDataset, Split
from edge_unet.data.folders import open_folder
from edge_unet.data.scenes import SceneDataset

SCENES = "scenes"
"""In place of a folder: the procedural scenes of data.scene."""
ROOT_VARIABLE = "EDGE_UNET_DATA"
"""Environment variable: the folder that relative dataset names of a recipe are below."""


def open_data(recipe: Recipe, split: Split, root: Path | None = None) -> Dataset:
    """Open the training or the validation data of a recipe.

    Folders are below `root`, else below $EDGE_UNET_DATA, else below the current directory. Several are joined; the name
    "scenes" among them stands for data.scene_count procedural scenes.
    Without `data.val`, validation comes from the folders of `data.train` (their val/, or a seeded group split). A
    folder without val/ is cut in two only where nothing else is named for the other part. No folder at all means
    procedural scenes; validation scenes are another seed.
    Raises DataError with the offenders of all folders, UsageError where data.val stands without data.train.
    """
    data = recipe.data
    if data.val and not data.train:
        raise UsageError("data.val is given without data.train; name the training folders too")
    if not data.train:
        return _scenes(recipe, split)
    base = root or Path(os.environ.get(ROOT_VARIABLE, "."))
    listed, other = (data.train, data.val) if split == "train" else (data.val or data.train, data.train)
    parts: list[Dataset] = []
    failures: list[DataError] = []
    for entry in listed:
        if entry == SCENES:
            parts.append(_scenes(recipe, split))
            continue
        path = base / entry
        name = path.name if Path(entry).is_absolute() else Path(entry).as_posix()
        whole = bool(data.val) and entry not in other
        if whole and split == "train" and (path / "train" / "images").is_dir():
            path, name = path / "train", f"{name}/train"
        whole = whole and (path / "images").is_dir()
        try:
            parts.append(open_folder(path, "all" if whole else split, recipe, name=name))
        except DataError as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    if failures:
        lines = [line for error in failures for line in str(error).split("\n  ")]
        raise DataError(f"{len(failures)} of {len(listed)} {split} folders cannot be used", lines)
    return parts[0] if len(parts) == 1 else JoinedDataset(parts)


def _scenes(recipe: Recipe, split: Split) -> Dataset:
    """Procedural scenes: an eighth as many for validation, from a seed of their own."""
    count = recipe.data.scene_count if split == "train" else max(32, recipe.data.scene_count // 8)
    return SceneDataset(
        kind=recipe.data.scene,
        count=count,
        seed=2 * recipe.seed + (split == "val"),
        height=recipe.preprocess.height,
        width=recipe.preprocess.width,
        color_order=recipe.preprocess.color_order,
        class_spec=recipe.classes,
    )
