"""Batches that depend only on (seed, phase, epoch, step): a resumed run sees exactly what an unbroken one does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import Recipe, TrainSpec
from edge_unet.data.augment import augment
from edge_unet.training.losses import truth_maps
from edge_unet.training.schedule import input_size


class Batch(NamedTuple):
    """n augmented images, their truth, and what the loss wants to know of it beforehand."""

    x: Tensor  # (n, C, h, w) float32 real input in channels_last
    y: Tensor  # (n, h, w) int64 class ids
    maps: Mapping[str, Tensor]
    """See losses/maps.py; made here, so that the thread of `Batches.epoch` makes them."""


OUTSIDE = 255
"""Class id of pixels the loss must skip, where the classes name no ignore value of their own."""


def derived_seed(*parts: int) -> int:
    """One 63-bit seed out of several non-negative numbers; near numbers give unrelated seeds (numpy SeedSequence)."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def ignore_id(recipe: Recipe) -> int:
    """The class id the loss skips."""
    return OUTSIDE if recipe.classes.ignore_value is None else recipe.classes.ignore_value


@dataclass(frozen=True)
class Batches:
    """Augmented training batches of one phase; this process makes its `rank`-th share of every global batch.

    `frames` (N, H, W, C) u8 and `masks` (N, H, W) u8 stay in RAM.
    """

    frames: Tensor
    masks: Tensor
    recipe: Recipe
    spec: TrainSpec
    phase: int
    device: torch.device
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.size % self.world:
            raise UsageError(
                f"a batch of {self.size} does not share out over {self.world} processes; "
                f"change train.batch to a multiple of {self.world}"
            )

    @property
    def size(self) -> int:
        """Images of a global batch: the recipe's, or the whole set where it is smaller."""
        return min(self.spec.batch, len(self.frames))

    @property
    def steps(self) -> int:
        """Batches per epoch. The last incomplete one is dropped: its BN statistics would be noise."""
        return len(self.frames) // self.size

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first_step` on. One thread prepares the next while the caller trains."""
        with ThreadPoolExecutor(1, "batches") as thread:
            pending = thread.submit(self.batch, epoch, first_step)
            for step in range(first_step, self.steps):
                ready = pending.result()
                if step + 1 < self.steps:
                    pending = thread.submit(self.batch, epoch, step + 1)
                yield ready

    def batch(self, epoch: int, step: int) -> Batch:
        """This process's share of one global batch."""
        share = self.size // self.world
        first = step * self.size + self.rank * share
        chosen = self._order(epoch)[first : first + share]
        seed = derived_seed(self.recipe.seed, self.phase, epoch, step, self.rank)
        frames = self.frames[chosen].permute(0, 3, 1, 2).to(self.device)  # (n, C, H, W), channels_last in memory
        x, y = augment(
            frames,
            self.masks[chosen].to(self.device),
            self.recipe.augment,
            self.recipe.preprocess,
            size=input_size(self.recipe, self.spec, epoch),
            ignore=ignore_id(self.recipe),
            generator=torch.Generator(self.device).manual_seed(seed),
        )
        maps = truth_maps(self.recipe.loss, y, ignore_id(self.recipe), self.recipe.classes.channels)
        return Batch(x.contiguous(memory_format=torch.channels_last), y, maps)

    def _order(self, epoch: int) -> Tensor:
        """A permutation of all images, another one every epoch."""
        seed = derived_seed(self.recipe.seed, self.phase, epoch)
        return torch.randperm(len(self.frames), generator=torch.Generator().manual_seed(seed))
