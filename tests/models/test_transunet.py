"""TransUNet: as large as published, trainable at other sizes than its own, and exact as a canonical file."""

from __future__ import annotations

import pytest
import torch
from network_checks import (
    heads_of,
    recipe_of,
)
from torch import nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build, build_whole
from edge_unet.models.transunet import VitBlock

TINY = PRESETS["transunet-tiny"]


def test_a_block_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours = VitBlock(32, 4, 2)
    theirs = nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    copied = {
        "self_attn.in_proj_": ("query", "key", "value"),
        "self_attn.out_proj.": ("project",),
        "linear1.": ("feed.1",),
        "linear2.": ("feed.3",),
    }
    with torch.no_grad():
        for weight in ours.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
        for name, layers in copied.items():
            weights = [ours.get_parameter(f"{layer}.weight").flatten(1) for layer in layers]
            theirs.get_parameter(f"{name}weight").copy_(torch.cat(weights))
            theirs.get_parameter(f"{name}bias").copy_(torch.cat([ours.get_parameter(f"{n}.bias") for n in layers]))
        for name, norm in (("norm1", "norm"), ("norm2", "feed.0")):
            for part in ("weight", "bias"):
                theirs.get_parameter(f"{name}.{part}").copy_(ours.get_parameter(f"{norm}.{part}"))
        x = torch.randn(2, 32, 3, 5)
        expected = theirs(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(2, 32, 3, 5)
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)


def test_the_position_embedding_has_the_recipes_grid_and_other_sizes_run() -> None:
    spec = recipe_of(TINY)
    wide = spec.model_copy(update={"preprocess": spec.preprocess.model_copy(update={"width": 96})})
    net = build_whole(wide)
    assert net.get_parameter("position.embedding").shape == (1, 64, 4, 6)
    assert heads_of(net, torch.zeros(1, 3, 32, 128))[0].shape == (1, 1, 32, 128)


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown transunet variant 'b32'"):
        build(recipe_of(ModelSpec(name="transunet", variant="b32", depth=4)))
    with pytest.raises(UsageError, match="nearest or bilinear"):
        build(recipe_of(ModelSpec(name="transunet", depth=4, upsample="deconv")))
