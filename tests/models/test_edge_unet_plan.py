"""The text of a plan: it comes back as it was, names the same network, and a wrong one is refused in words."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from network_checks import recipe_of

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import build
from edge_unet.models.edge_unet_plan import (
    PLANS,
    TRIED,
    Plan,
    Stage,
    Step,
    check_plan,
    format_plan,
    model_of,
    parse_plan,
    plan_of,
)

KIND = st.sampled_from(("dense", "large"))
WIDTH = st.integers(1, 128).map(lambda n: 8 * n)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Any plan that is allowed."""
    count = draw(st.integers(2, 4))
    stages = tuple(
        Stage(draw(WIDTH), draw(st.integers(1, 16)), draw(KIND), 3 if n == 0 else draw(st.sampled_from((2, 3))))
        for n in range(count)
    )
    detail = draw(st.sampled_from((0, 8, 16, 64)))
    kinds = [draw(KIND) for _ in range(count if detail else count - 1)]
    steps = tuple(Step(draw(WIDTH), 1 if kind == "large" else draw(st.integers(1, 4)), kind) for kind in kinds)
    return Plan(
        stages,
        steps,
        stem=draw(st.sampled_from(("patch", "overlap", "shuffle"))),
        head=draw(st.sampled_from(("shuffle", "bilinear"))),
        skip=draw(st.sampled_from(("add", "concat"))),
        branches=draw(st.booleans()),
        detail=detail,
    )


@given(plans())
@settings(max_examples=100, deadline=None)
def test_text_and_plan_are_one(plan: Plan) -> None:
    check_plan(plan)
    text = format_plan(plan)
    assert parse_plan(text) == plan
    assert plan_of(text) == plan
    assert plan_of(model_of(plan).variant) == plan


def test_texts_of_the_shipped_plans() -> None:
    """Pinned: checkpoints hold these texts."""
    assert {name: format_plan(plan) for name, plan in PLANS.items()} == {
        "nano": "64x1,64x1,128x1,192x2Lk2/128L,64,64",
        "small": "64x2,128x2,192x2,256x2Lk2/128L,128,64",
        "base": "64x3,128x5,256x5,320x2Lk2/128L,128x2,64x2",
        "large": "128x4,128x6,256x7,384x2Lk2/128L,128x2,128x2",
        "portable-nano": "32x1,64x1k2,128x2Lk2,192x2Lk2/96L,64,32",
        "portable-small": "32x2,64x3k2,128x3Lk2,128x2Lk2/96L,64,32",
    }
    assert {name: format_plan(plan) for name, plan in TRIED.items()} == {
        "nano-overlap": "64x1,64x1,128x1,192x2Lk2/128L,64,64/overlap",
        "nano-unshuffle": "64x1,64x1,128x1,192x2Lk2/128L,64,64/unshuffle",
        "nano-bilinear": "64x1,64x1,128x1,192x2Lk2/128L,64,64/bilinear",
        "nano-concat": "64x1,64x1,128x1,192x2Lk2/128L,64,64/concat",
        "nano-branches": "64x1,64x1,128x1,192x2Lk2/128L,64,64/branches",
        "nano-detail": "64x1,64x1,128x1,192x2Lk2/128L,64,64,16/detail16",
        "nano-large": "64x1,64x1,128x2L,192x2Lk2/128L,64,64",
        "nano-shallow": "64x1,64x1,128x1/64,64",
    }
    assert plan_of("") == PLANS["nano"]
    assert model_of(PLANS["small"]).variant == "small"


@pytest.mark.parametrize("name", ["nano", "portable-nano", "nano-detail"])
def test_name_and_text_make_the_same_network(name: str) -> None:
    nets = []
    plan = plan_of(name)
    for variant in (name, format_plan(plan)):
        torch.manual_seed(0)
        spec = ModelSpec(name="edge_unet", variant=variant, depth=len(plan.stages) + 1, deep=True)
        nets.append(build(recipe_of(spec)).eval())
    first, second = (net.state_dict() for net in nets)
    assert list(first) == list(second)
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("64x1/", r"expected a decoder step .* received ''"),
        ("64x1/64", "expected 2 to 4 stages, received 1"),
        ("64x1,64x1,128x1/64", "3 stages need 2 decoder step\\(s\\), received 1"),
        ("64x1,60x1/64", "expected a multiple of 8 from 8 to 1024 as channels, received 60"),
        ("64x1,64x0/64", "expected 1 to 16 blocks in a stage, received 0"),
        ("64x1,64x1/64x2L", "expected 1 to 1 convolutions in a step, received 2"),
        ("64x1,64x1/64x5", "expected 1 to 4 convolutions in a step, received 5"),
        ("64x1k2,64x1/64", "k2 stands on the first stage"),
        ("64,64x1/64", "expected a stage such as 64x2, 128x2L or 64x1k2, received '64'"),
        ("64x1,64x1k3/64", "received '64x1k3'"),
        ("64x1,64x1/64/64", "expected one of overlap, .* or detail16, received '64'"),
        ("64x1,64x1/64/", "or detail16, received ''"),
        ("64x1,64x1/64/detail16", r"2 stages with a detail branch need 2 decoder step\(s\), received 1"),
        ("64x1,64x1/64,8/detail12", "received 12"),
    ],
)
def test_a_wrong_text_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        plan_of(text)


def test_the_depth_of_a_recipe_must_be_the_plans() -> None:
    with pytest.raises(UsageError, match=r"edge_unet 64x1,64x1/64 has model.depth = 3, received 4"):
        build(recipe_of(ModelSpec(name="edge_unet", variant="64x1,64x1/64", depth=4)))
