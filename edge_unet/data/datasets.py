"""What a dataset is to everything above it, and several datasets read as one."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import DataError
from edge_unet.core.spec import ClassSpec

Split = Literal["train", "val"]


class Dataset(Protocol):
    """Frames with their masks, by index."""

    @property
    def name(self) -> str:
        """Short name for logs and manifests."""
        ...

    @property
    def classes(self) -> ClassSpec:
        """What the ids in the masks mean."""
        ...

    @property
    def sha256(self) -> str:
        """Of the sorted names and the contents: the same data anywhere has the same hash."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """One unique name per frame; for files, the path of the image below the data root."""
        ...

    def __len__(self) -> int: ...

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frame (H, W, C) u8 in the recipe's colour order at its original size, and mask (H, W) u8 of class ids.
        The ignore value is kept as it is."""
        ...

    def frame_sha256(self, index: int) -> str:
        """Of the image file's bytes, or of the pixels where there is no file."""
        ...


class JoinedDataset:
    """Several datasets of the same classes, one after the other. Raises DataError where the classes or names clash."""

    def __init__(self, parts: Sequence[Dataset]) -> None:
        if not parts:
            raise DataError("no dataset to join; name at least one folder")
        other = [part.name for part in parts if part.classes != parts[0].classes]
        if other:
            raise DataError(f"datasets of different classes cannot be joined with {parts[0].name!r}", other)
        self._parts = tuple(parts)
        self._ends = tuple(accumulate(len(part) for part in parts))
        self._names = tuple(name for part in parts for name in part.names)
        twice = [name for name, times in Counter(self._names).items() if times > 1]
        if twice:
            raise DataError("the same frames are listed twice; name each folder once", twice)

    @property
    def name(self) -> str:
        """Names of the parts, joined by '+'."""
        return "+".join(part.name for part in self._parts)

    @property
    def classes(self) -> ClassSpec:
        """The classes all parts share."""
        return self._parts[0].classes

    @property
    def sha256(self) -> str:
        """Of the hashes of the parts; the order of the parts does not matter."""
        return content_hash((part.name, part.sha256) for part in self._parts)

    @property
    def names(self) -> Sequence[str]:
        """Names of all frames, part after part."""
        return self._names

    def __len__(self) -> int:
        return self._ends[-1]

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frame and mask number `index`, counted over all parts."""
        part, within = self._find(index)
        return part.load(within)

    def frame_sha256(self, index: int) -> str:
        """Hash of frame number `index`, counted over all parts."""
        part, within = self._find(index)
        return part.frame_sha256(within)

    def _find(self, index: int) -> tuple[Dataset, int]:
        """The part that holds frame `index`, and its index there."""
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        part = bisect_right(self._ends, index)
        return self._parts[part], index - (self._ends[part - 1] if part else 0)


def content_hash(entries: Iterable[tuple[str, str]]) -> str:
    """sha256 over (name, hash) pairs, sorted, so that no listing order changes it."""
    digest = hashlib.sha256()
    for name, value in sorted(entries):
        digest.update(f"{name}\0{value}\n".encode())
    return digest.hexdigest()
