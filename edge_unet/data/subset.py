"""A part of a dataset, chosen by a seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.spec import ClassSpec
from edge_unet.data.datasets import Dataset, content_hash


class SubsetDataset:
    """Frames of another dataset by their indices."""

    def __init__(self, whole: Dataset, indices: Sequence[int]) -> None:
        self._whole, self._indices = whole, tuple(indices)

    @property
    def name(self) -> str:
        """'400 of kvasir_seg'."""
        return f"{len(self._indices)} of {self._whole.name}"

    @property
    def classes(self) -> ClassSpec:
        """Those of the whole."""
        return self._whole.classes

    @property
    def sha256(self) -> str:
        """Of the whole and of what was chosen."""
        return content_hash([("whole", self._whole.sha256), *((name, "") for name in self.names)])

    @property
    def names(self) -> Sequence[str]:
        """Names of the chosen frames."""
        return tuple(self._whole.names[index] for index in self._indices)

    def __len__(self) -> int:
        return len(self._indices)

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Frame and mask number `index` of the chosen."""
        return self._whole.load(self._indices[index])

    def frame_sha256(self, index: int) -> str:
        """Hash of frame number `index` of the chosen."""
        return self._whole.frame_sha256(self._indices[index])


def seeded_subset(whole: Dataset, count: int, seed: int) -> Dataset:
    """At most `count` frames of `whole`, the same for the same seed, in the order of the whole."""
    if count >= len(whole):
        return whole
    chosen = np.random.default_rng(seed).permutation(len(whole))[:count]
    return SubsetDataset(whole, sorted(int(index) for index in chosen))
