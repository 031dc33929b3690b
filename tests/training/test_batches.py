from __future__ import annotations

import dataclasses

import pytest
import torch

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import AugmentSpec, Recipe
from edge_unet.data.cache import load_resized
from edge_unet.data.datasets import Dataset
from edge_unet.training.batches import Batches, derived_seed

NEUTRAL = AugmentSpec(
    flip_horizontal=0,
    flip_vertical=0,
    rotate_degrees=0,
    scale=(1, 1),
    shift=0,
    elastic=0,
    brightness=0,
    contrast=0,
    saturation=0,
    hue=0,
    blur=0,
    noise=0,
)


@pytest.fixture
def batches(recipe: Recipe, squares: tuple[Dataset, Dataset]) -> Batches:
    frames, masks = (torch.from_numpy(a) for a in load_resized(squares[0], recipe.preprocess))
    return Batches(frames, masks, recipe, recipe.train, 0, torch.device("cpu"))


def test_a_batch_depends_on_its_place_alone(batches: Batches) -> None:
    whole = list(batches.epoch(1))
    rest = list(batches.epoch(1, first_step=4))
    assert len(whole) == batches.steps == 6
    assert len(rest) == 2
    for (x, y, _), (x2, y2, _) in zip(whole[4:], rest, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    assert not torch.equal(whole[0][0], batches.batch(2, 0)[0])
    assert not torch.equal(whole[0][0], dataclasses.replace(batches, phase=1).batch(1, 0)[0])


def test_shapes_types_and_memory_format(batches: Batches) -> None:
    x, y, maps = batches.batch(0, 0)
    assert maps == {}
    assert x.shape == (8, 3, 32, 32)
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert batches.batch(1, 0)[1].shape == (8, 64, 64)


def test_an_epoch_sees_every_image_once_in_another_order(batches: Batches, recipe: Recipe) -> None:
    neutral = dataclasses.replace(batches, recipe=recipe.model_copy(update={"augment": NEUTRAL}))
    orders = []
    for epoch in (1, 2):
        pictures = torch.cat([batch.x for batch in neutral.epoch(epoch)])
        codes = (pictures * 64 + 128).round().to(torch.uint8).permute(0, 2, 3, 1)
        orders.append([int((neutral.frames == code).flatten(1).all(1).nonzero()) for code in codes])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(48))
    assert orders[0] != orders[1]


def test_ranks_share_a_global_batch(batches: Batches, recipe: Recipe) -> None:
    neutral = dataclasses.replace(batches, recipe=recipe.model_copy(update={"augment": NEUTRAL}))
    whole = neutral.batch(1, 2)[0]
    shares = [dataclasses.replace(neutral, rank=rank, world=2).batch(1, 2)[0] for rank in (0, 1)]
    assert torch.equal(torch.cat(shares), whole)
    with pytest.raises(UsageError, match="multiple of 3"):
        dataclasses.replace(batches, world=3)


def test_a_small_set_is_one_batch(batches: Batches) -> None:
    small = dataclasses.replace(batches, frames=batches.frames[:5], masks=batches.masks[:5])
    assert (small.size, small.steps) == (5, 1)


def test_an_error_in_the_thread_reaches_the_caller(batches: Batches) -> None:
    broken = dataclasses.replace(batches, masks=batches.masks.float())
    with pytest.raises(UsageError, match="uint8"):
        list(broken.epoch(0))


def test_near_seeds_are_unrelated_and_fit_a_generator() -> None:
    seeds = {derived_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125
    for seed in seeds:
        torch.Generator().manual_seed(seed)
    assert derived_seed(1, 2) == derived_seed(1, 2)
