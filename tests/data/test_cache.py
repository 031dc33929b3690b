from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_unet.core.errors import DataError
from edge_unet.core.recipe import Recipe
from edge_unet.core.spec import ClassSpec, PreprocessSpec
from edge_unet.data.cache import load_resized
from edge_unet.data.folders import open_folder
from edge_unet.frames import resize_frame, resize_labels


def test_every_pair_at_the_network_size(make_folder: Callable[..., Path], recipe: Recipe) -> None:
    dataset = open_folder(make_folder(count=5), "all", recipe)
    seen: list[tuple[int, int]] = []
    frames, masks = load_resized(dataset, recipe.preprocess, lambda done, total: seen.append((done, total)))
    assert (frames.shape, masks.shape) == ((5, 64, 64, 3), (5, 64, 64))
    assert seen == [(done, 5) for done in range(1, 6)]
    for index in range(5):
        frame, mask = dataset.load(index)
        np.testing.assert_array_equal(frames[index], resize_frame(frame, recipe.preprocess))
        np.testing.assert_array_equal(masks[index], resize_labels(mask, recipe.preprocess))


@pytest.mark.parametrize(("ignore", "bar"), [(None, 0), (11, 11)])
def test_letterbox_bars_are_ignored_where_that_is_possible(
    tmp_path: Path, write_pair: Callable[..., None], ignore: int | None, bar: int
) -> None:
    classes = ClassSpec(names=("a", "b"), palette=((0, 0, 0), (1, 1, 1)), ignore_value=ignore)
    spec = PreprocessSpec(height=64, width=64, resize="letterbox")
    write_pair(tmp_path, "wide", np.ones((32, 64), np.uint8))
    recipe = Recipe(preprocess=spec, classes=classes)
    frames, masks = load_resized(open_folder(tmp_path, "all", recipe), spec)
    assert (masks[0, :16] == bar).all()
    assert (masks[0, 16:48] == 1).all()
    assert (frames[0, :16] == 128).all()


def test_other_channels_are_refused(make_folder: Callable[..., Path], recipe: Recipe) -> None:
    grey = PreprocessSpec(height=64, width=64, channels=1, color_order="GRAY")
    with pytest.raises(DataError, match="3 channels; the recipe expects 1"):
        load_resized(open_folder(make_folder(), "all", recipe), grey)
