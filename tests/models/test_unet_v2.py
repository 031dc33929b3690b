"""U-Net v2: as large as published, trainable, prunable, and exact as a canonical file."""

from __future__ import annotations

import pytest
import torch
from network_checks import (
    heads_of,
    pictures,
    recipe_of,
    silent_parameters,
)

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build, build_whole
from edge_unet.models.levels import cut_to_level

TINY = PRESETS["unet_v2-tiny"]


@pytest.mark.parametrize("preset", ["unet_v2-tiny", "vm_unet_v2-tiny"])
def test_a_level_leaves_nothing_of_the_finer_decoder(preset: str) -> None:
    left = {n for n, _ in cut_to_level(build_whole(recipe_of(PRESETS[preset])), "L1").named_modules()}
    assert "decoder.infuse.3" in left
    assert not any(n.startswith(("decoder.infuse.2", "decoder.up", "decoder.heads.convs.1")) for n in left)


def test_the_published_product_trains_too() -> None:
    assert silent_parameters(PRESETS["unet_v2-tiny"].model_copy(update={"variant": "b2-paper"})) == []


def test_without_deep_supervision_the_finest_head_is_left() -> None:
    torch.manual_seed(0)
    single = build(recipe_of(TINY.model_copy(update={"deep": False})))
    assert isinstance(heads_of(single, pictures())[0], torch.Tensor)
    assert "decoder.heads.convs.3.weight" in single.state_dict()
    assert "decoder.heads.convs.0.weight" not in single.state_dict()


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown unet_v2 variant 'b1'"):
        build(recipe_of(ModelSpec(name="unet_v2", variant="b1")))
    with pytest.raises(UsageError, match=r"model\.depth = 5, received 4"):
        build(recipe_of(ModelSpec(name="unet_v2", depth=4)))
    with pytest.raises(UsageError, match="nearest or bilinear"):
        build(recipe_of(ModelSpec(name="unet_v2", upsample="deconv")))
