"""Calibration sets: which images set the quantization ranges, by name and hash, never the images themselves.

A manifest is TOML under calibration/sets/. Ranges that were seen on validation images would flatter the validation
score, so the val split is refused; below 32 images one odd frame moves a range.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from edge_unet.core.errors import DataError, UsageError
from edge_unet.core.files import write_text
from edge_unet.core.spec import Frozen, PreprocessSpec
from edge_unet.data.datasets import Dataset, Split, content_hash
from edge_unet.frames import resize_frame

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FEWEST = 32


class CalibrationEntry(Frozen):
    """One image: its path below the data root, and the hash of its file."""

    file: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class CalibrationSet(Frozen):
    """A named choice of training images. `why` says why these and this many."""

    schema_version: Literal[1] = 1
    name: str = Field(min_length=1)
    dataset: str
    split: Literal["train"] = "train"
    why: str = Field(min_length=1)
    entries: tuple[CalibrationEntry, ...] = Field(min_length=FEWEST)

    @property
    def sha256(self) -> str:
        """Of the files and their hashes; name and reason may be reworded."""
        return content_hash((entry.file, entry.sha256) for entry in self.entries)

    def indices(self, dataset: Dataset) -> tuple[int, ...]:
        """Where the entries are in `dataset`, in manifest order.

        Raises DataError listing every entry that `dataset` lacks or whose content has another hash.
        """
        places = {name: index for index, name in enumerate(dataset.names)}
        offenders = []
        for entry in self.entries:
            if entry.file not in places:
                offenders.append(f"{entry.file}: not in {dataset.name}")
            elif (found := dataset.frame_sha256(places[entry.file])) != entry.sha256:
                offenders.append(f"{entry.file}: expected sha256 {entry.sha256[:12]}..., found {found[:12]}...")
        if offenders:
            raise DataError(
                f"calibration set {self.name!r} of {self.dataset} does not fit the data; "
                "open the data it was made from, or build a new set",
                offenders,
            )
        return tuple(places[entry.file] for entry in self.entries)

    def frames(self, dataset: Dataset, preprocess: PreprocessSpec) -> NDArray[np.uint8]:
        """Verify, then load: (N, h, w, C) u8 frames at the size of `preprocess`, in the dataset's colour order."""
        return np.stack([resize_frame(dataset.load(index)[0], preprocess) for index in self.indices(dataset)])


def build_calibration_set(
    dataset: Dataset, split: Split, *, name: str, why: str, count: int = 64, seed: int = 0
) -> CalibrationSet:
    """Choose `count` frames of `dataset` by a seeded hash of their names, so that any listing order gives the same.

    Raises UsageError on the val split, on fewer than 32 images, or where the dataset has fewer than `count`.
    """
    if split != "train":
        raise UsageError(f"calibration set {name!r}: taken from split {split!r}; expected the training split")
    held_out = [file for file in dataset.names if "val" in Path(file).parts]
    if held_out:
        raise UsageError(f"calibration set {name!r}: {len(held_out)} files are of a val split, first {held_out[0]}")
    if not FEWEST <= count <= len(dataset):
        raise UsageError(
            f"calibration set {name!r}: {count} of {len(dataset)} images of {dataset.name}; "
            f"expected at least {FEWEST} and no more than there are"
        )
    ranked = sorted((hashlib.sha256(f"{seed}\0{file}".encode()).digest(), i) for i, file in enumerate(dataset.names))
    chosen = sorted((dataset.names[index], index) for _, index in ranked[:count])
    entries = tuple(CalibrationEntry(file=file, sha256=dataset.frame_sha256(index)) for file, index in chosen)
    return CalibrationSet(name=name, dataset=dataset.name, why=why, entries=entries)


def read_calibration_set(path: Path) -> CalibrationSet:
    """Read a manifest. Raises UsageError on unreadable TOML, the val split, fewer than 32 entries, or a bad value."""
    try:
        return CalibrationSet.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot read the calibration set: {error}") from error
    except ValidationError as error:
        lines = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise UsageError(f"{path}: not a calibration set: {'; '.join(lines)}") from error


def write_calibration_set(calibration: CalibrationSet, path: Path) -> None:
    """Write a manifest, whole or not at all."""
    head = {"name": calibration.name, "dataset": calibration.dataset, "split": calibration.split}
    lines = [f"schema_version = {calibration.schema_version}"]
    # A JSON string is a TOML basic string.
    lines += [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    lines += [f"why = {json.dumps(calibration.why, ensure_ascii=False)}", "entries = ["]
    lines += [
        f"  {{ file = {json.dumps(entry.file, ensure_ascii=False)}, sha256 = {json.dumps(entry.sha256)} }},"
        for entry in calibration.entries
    ]
    write_text(path, "\n".join([*lines, "]", ""]))
