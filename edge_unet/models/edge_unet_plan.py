"""Stage lists of the edge_unet family as data: the shipped ones by name, and any other written out.

The text of a plan is what `model.variant` of a recipe holds, so that a network that a search found lives in recipes
and checkpoints like a shipped one: encoder stages, a slash, decoder steps.

    64x1,64x1,128x1,192x2Lk2/128L,64,64         the plan "nano"
    32x1,64x1k2,128x2Lk2,192x2Lk2/96L,64,32     the plan "portable-nano"

    64x1,64x1,128x1/64,64,16/overlap,detail16   one level less, another stem and a branch at 1/2

A stage is CHANNELSxBLOCKS, with L for large kernels and k2 for a 2x2 convolution in front; a step is CHANNELS, with
xCONVS where there is more than one, and L. A second slash leads to what is not the default, in the order of MARKS.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.core.registry import lookup, registry

Block = Literal["dense", "large"]
StemKind = Literal["patch", "overlap", "shuffle"]
HeadKind = Literal["shuffle", "bilinear"]
SkipKind = Literal["add", "concat"]

STAGES = (2, 4)
"""Fewest and most encoder stages: heads at 1/8 to 1/32."""
CHANNELS = (8, 1024)
"""Multiples of 8 between these."""
BLOCKS = (1, 16)
CONVS = (1, 4)
DEFAULT = "nano"
"""What an empty variant is."""


@dataclass(frozen=True)
class Stage:
    """One encoder level: `blocks` residual blocks of `channels` behind a convolution of stride 2 (stem: 4)."""

    channels: int
    blocks: int
    kind: Block = "dense"
    """dense: two 3x3; large: depthwise 5x5 and 1x1."""
    kernel: int = 3
    """Of the convolution in front: 3, or 2 (cheaper, no overlap). Of the first stage, whose stem is the plan's: 3."""


@dataclass(frozen=True)
class Step:
    """One decoder level: 1x1 to `channels`, x2, add the skip, `convs` 3x3 (or one depthwise 5x5 and 1x1)."""

    channels: int
    convs: int = 1
    kind: Block = "dense"


@dataclass(frozen=True)
class Plan:
    """Encoder from 1/4 downwards; decoder from the second coarsest level upwards, one step less (with a detail branch
    as many)."""

    stages: tuple[Stage, ...]
    steps: tuple[Step, ...]
    stem: StemKind = "patch"
    head: HeadKind = "shuffle"
    skip: SkipKind = "add"
    branches: bool = False
    """A 1x1 learns beside every dense 3x3 and is folded into it."""
    detail: int = 0
    """Channels of a branch at 1/2 that the last step joins; 0 = none."""


PLANS: Mapping[str, Plan] = registry(
    (
        (
            "nano",
            Plan(
                (Stage(64, 1), Stage(64, 1), Stage(128, 1), Stage(192, 2, "large", 2)),
                (Step(128, kind="large"), Step(64), Step(64)),
            ),
        ),
        (
            "small",
            Plan(
                (Stage(64, 2), Stage(128, 2), Stage(192, 2), Stage(256, 2, "large", 2)),
                (Step(128, kind="large"), Step(128), Step(64)),
            ),
        ),
        (
            "base",
            Plan(
                (Stage(64, 3), Stage(128, 5), Stage(256, 5), Stage(320, 2, "large", 2)),
                (Step(128, kind="large"), Step(128, 2), Step(64, 2)),
            ),
        ),
        (
            "large",
            Plan(
                (Stage(128, 4), Stage(128, 6), Stage(256, 7), Stage(384, 2, "large", 2)),
                (Step(128, kind="large"), Step(128, 2), Step(128, 2)),
            ),
        ),
        (
            "portable-nano",
            Plan(
                (Stage(32, 1), Stage(64, 1, kernel=2), Stage(128, 2, "large", 2), Stage(192, 2, "large", 2)),
                (Step(96, kind="large"), Step(64), Step(32)),
            ),
        ),
        (
            "portable-small",
            Plan(
                (Stage(32, 2), Stage(64, 3, kernel=2), Stage(128, 3, "large", 2), Stage(128, 2, "large", 2)),
                (Step(96, kind="large"), Step(64), Step(32)),
            ),
        ),
    )
)
"""1, 2, 4 and 8 ms class at 256x256 on one core with INT8 tiles; the portable line is for ARM and VNNI alone."""

_NANO = PLANS["nano"]
TRIED: Mapping[str, Plan] = registry(
    (
        ("nano-overlap", replace(_NANO, stem="overlap")),
        ("nano-unshuffle", replace(_NANO, stem="shuffle")),
        ("nano-bilinear", replace(_NANO, head="bilinear")),
        ("nano-concat", replace(_NANO, skip="concat")),
        ("nano-branches", replace(_NANO, branches=True)),
        ("nano-detail", replace(_NANO, detail=16, steps=(*_NANO.steps, Step(16)))),
        ("nano-large", replace(_NANO, stages=(*_NANO.stages[:2], Stage(128, 2, "large"), _NANO.stages[3]))),
        ("nano-shallow", Plan(_NANO.stages[:3], (Step(64), Step(64)))),
    )
)
"""Other stems, heads, skips and blocks of nano, measured for docs/decisions/0018: a recipe can name them, no preset
does."""

MARKS: Mapping[str, Mapping[str, Any]] = registry(
    (
        ("overlap", {"stem": "overlap"}),
        ("unshuffle", {"stem": "shuffle"}),
        ("bilinear", {"head": "bilinear"}),
        ("concat", {"skip": "concat"}),
        ("branches", {"branches": True}),
    )
)
"""Word in a plan's text -> what it sets; behind them detail with its channels."""

_STAGE = re.compile(r"(?P<channels>\d{1,4})x(?P<blocks>\d{1,2})(?P<large>L?)(?P<down>(?:k2)?)")
_STEP = re.compile(r"(?P<channels>\d{1,4})(?:x(?P<convs>\d))?(?P<large>L?)")
_DETAIL = re.compile(r"detail(?P<channels>\d{1,3})")


def plan_of(variant: str) -> Plan:
    """The plan that `model.variant` names ('' = nano) or spells out. Raises UsageError where it does neither."""
    if "/" in variant:
        return parse_plan(variant)
    return lookup({**PLANS, **TRIED}, variant or DEFAULT, "edge_unet variant")


def model_of(plan: Plan) -> ModelSpec:
    """The [model] of a recipe for a plan, with a head on every level; a shipped plan goes by its name."""
    named = next((name for name, known in {**PLANS, **TRIED}.items() if known == plan), None)
    return ModelSpec(name="edge_unet", variant=named or format_plan(plan), depth=len(plan.stages) + 1, deep=True)


def format_plan(plan: Plan) -> str:
    """The one text of a plan; `parse_plan` gives the plan back."""
    stages = (
        f"{s.channels}x{s.blocks}{'L' if s.kind == 'large' else ''}{'k2' if s.kernel == 2 else ''}" for s in plan.stages
    )
    steps = (
        f"{s.channels}{f'x{s.convs}' if s.convs > 1 else ''}{'L' if s.kind == 'large' else ''}" for s in plan.steps
    )
    marks = [mark for mark, sets in MARKS.items() if all(getattr(plan, name) == value for name, value in sets.items())]
    marks += [f"detail{plan.detail}"] if plan.detail else []
    return "/".join(filter(None, (",".join(stages), ",".join(steps), ",".join(marks))))


def parse_plan(text: str) -> Plan:
    """The plan of a text such as '64x1,64x1,128x1/64,64'. Raises UsageError that names the part that is wrong."""
    encoder, _, rest = text.partition("/")
    decoder, slash, marks = rest.partition("/")
    plan = Plan(
        tuple(_stage(part, text) for part in encoder.split(",")),
        tuple(_step(part, text) for part in decoder.split(",")),
    )
    for mark in marks.split(",") if slash else ():
        plan = replace(plan, **_mark(mark, text))
    check_plan(plan, text)
    return plan


def check_plan(plan: Plan, text: str | None = None) -> None:
    """Raise UsageError unless the network of this plan exists; `text` is how the user wrote it."""
    named = text or format_plan(plan)
    if not STAGES[0] <= len(plan.stages) <= STAGES[1]:
        raise _refused(named, f"expected {STAGES[0]} to {STAGES[1]} stages, received {len(plan.stages)}")
    wanted = len(plan.stages) - (0 if plan.detail else 1)
    if len(plan.steps) != wanted:
        what = f"{len(plan.stages)} stages{' with a detail branch' if plan.detail else ''}"
        raise _refused(named, f"{what} need {wanted} decoder step(s), received {len(plan.steps)}")
    widths = [*(stage.channels for stage in plan.stages), *(step.channels for step in plan.steps)]
    for channels in (*widths, *([plan.detail] if plan.detail else [])):
        if channels % 8 or not CHANNELS[0] <= channels <= CHANNELS[1]:
            span = f"a multiple of 8 from {CHANNELS[0]} to {CHANNELS[1]}"
            raise _refused(named, f"expected {span} as channels, received {channels}")
    for stage in plan.stages:
        if not BLOCKS[0] <= stage.blocks <= BLOCKS[1]:
            raise _refused(named, f"expected {BLOCKS[0]} to {BLOCKS[1]} blocks in a stage, received {stage.blocks}")
    for step in plan.steps:
        most = 1 if step.kind == "large" else CONVS[1]
        if not CONVS[0] <= step.convs <= most:
            raise _refused(named, f"expected {CONVS[0]} to {most} convolutions in a step, received {step.convs}")
    if plan.stages[0].kernel != 3:
        raise _refused(named, "k2 stands on the first stage, in front of which is the stem; leave it out there")


def _stage(part: str, text: str) -> Stage:
    found = _STAGE.fullmatch(part.strip())
    if found is None:
        raise _refused(text, f"expected a stage such as 64x2, 128x2L or 64x1k2, received {part!r}")
    kind: Block = "large" if found["large"] else "dense"
    return Stage(int(found["channels"]), int(found["blocks"]), kind, 2 if found["down"] else 3)


def _step(part: str, text: str) -> Step:
    found = _STEP.fullmatch(part.strip())
    if found is None:
        raise _refused(text, f"expected a decoder step such as 64, 64x2 or 96L, received {part!r}")
    return Step(int(found["channels"]), int(found["convs"] or 1), "large" if found["large"] else "dense")


def _mark(mark: str, text: str) -> Mapping[str, Any]:
    found = _DETAIL.fullmatch(mark.strip())
    if found is not None:
        return {"detail": int(found["channels"])}
    if mark.strip() not in MARKS:
        raise _refused(text, f"expected one of {', '.join(MARKS)} or detail16, received {mark!r}")
    return MARKS[mark.strip()]


def _refused(text: str, why: str) -> UsageError:
    return UsageError(f"edge_unet plan {text!r}: {why}; a plan looks like 64x1,64x1,128x1/64,64")
