"""The edge_unet family: the shapes that were measured, and depth to space as torch has it."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
import torch
from network_checks import recipe_of
from torch import nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import build
from edge_unet.models.edge_unet import TRIED
from edge_unet.models.edge_unet_parts import DepthToSpace, Heads, SpaceToDepth
from edge_unet.quantization.fold import trace_folded

MEASURED = {
    "portable-nano": ("L4", 0.454e6, 0.284e9),
}
"""Variant -> (last level, parameters, MACs) of the shapes that were timed before the family was built."""


@pytest.mark.parametrize("variant", MEASURED)
def test_sizes_are_those_of_the_shapes_that_were_measured(variant: str) -> None:
    level, parameters, macs = MEASURED[variant]
    shipped = json.loads((files("edge_unet") / "reference" / "models.json").read_text(encoding="utf-8"))
    found = shipped[f"edge_unet-{variant}"]["levels"][level]
    assert found["parameters"] == pytest.approx(parameters, rel=0.01)
    assert found["macs"] == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize("classes", [1, 3])
def test_depth_to_space_is_pixel_shuffle(classes: int) -> None:
    x = torch.arange(2 * classes * 16 * 3 * 5, dtype=torch.float32).reshape(2, classes * 16, 3, 5)
    assert torch.equal(DepthToSpace(4)(x), nn.PixelShuffle(4)(x))


@pytest.mark.parametrize("channels", [1, 3])
def test_space_to_depth_is_pixel_unshuffle_and_its_own_way_back(channels: int) -> None:
    x = torch.randn(2, channels, 12, 20)
    assert torch.equal(SpaceToDepth(2)(x), nn.PixelUnshuffle(2)(x))
    assert torch.equal(DepthToSpace(2)(SpaceToDepth(2)(x)), x)


@pytest.mark.parametrize(
    ("classes", "widths"),
    [(1, (1024, 256, 64, 16)), (3, (768, 768, 192, 48)), (11, (704, 704, 704, 176)), (1500, (1500,) * 4)],
)
def test_a_head_of_many_classes_is_no_wider_than_that_of_one(classes: int, widths: tuple[int, ...]) -> None:
    heads = Heads((8, 8, 8, 8), (32, 16, 8, 4), classes)
    assert tuple(conv.weight.shape[0] for conv in heads.convs) == widths
    sizes = ((2, 3), (4, 6), (8, 12), (16, 24))
    levels = heads([torch.randn(1, 8, *size) for size in sizes])
    assert [tuple(level.shape) for level in levels] == [(1, classes, 64, 96)] * 5
    for level, width, stride in zip(levels, widths, (32, 16, 8, 4), strict=False):
        repeats = stride // round((width / classes) ** 0.5)
        small = level[:, :, ::repeats, ::repeats]
        assert torch.equal(level, small.repeat_interleave(repeats, 2).repeat_interleave(repeats, 3))


@pytest.mark.parametrize("variant", TRIED)
def test_a_variant_that_was_tried_gives_full_size_heads_and_learns_everywhere(variant: str) -> None:
    torch.manual_seed(0)
    plan = TRIED[variant]
    spec = ModelSpec(name="edge_unet", variant=variant, depth=len(plan.stages) + 1, deep=True)
    net = build(recipe_of(spec)).train()
    heads = net(torch.randn(2, 3, 64, 96))
    assert [tuple(head.shape) for head in heads] == [(2, 1, 64, 96)] * (len(plan.steps) + 2)
    sum(head.square().sum() for head in heads).backward()
    still = [name for name, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert still == []


def test_branches_fold_into_the_shape_without_them() -> None:
    torch.manual_seed(0)
    specs = [ModelSpec(name="edge_unet", variant=v, depth=5, deep=True) for v in ("nano-branches", "nano")]
    branched, plain = (build(recipe_of(spec)).eval() for spec in specs)
    folded = trace_folded(branched)
    shapes = [tuple(m.weight.shape) for m in trace_folded(plain).modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(m.weight.shape) for m in folded.modules() if isinstance(m, nn.Conv2d)] == shapes
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for mine, theirs in zip(folded(x), branched(x), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-4)


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown edge_unet variant 'pico'; known: base, large, nano"):
        build(recipe_of(ModelSpec(name="edge_unet", variant="pico", depth=4)))
    with pytest.raises(UsageError, match=r"edge_unet small has model.depth = 5, received 4"):
        build(recipe_of(ModelSpec(name="edge_unet", variant="small", depth=4)))
