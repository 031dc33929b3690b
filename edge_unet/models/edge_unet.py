"""edge_unet: a U-Net of dense 3x3 convolutions at 1/4 and below, shaped by what INT8 kernels do fast.

Nothing is computed at full size: the stem is one 4x4 convolution of stride 4, every level is residual 3x3 pairs (or,
in the portable line, depthwise 5x5 with 1x1 at 1/16), a skip is an add, and a head is a 1x1 convolution to s*s
channels whose depth is moved to space. That reaches 50-75 % of the best convolution's rate where inverted residuals
and thin full-size layers reach 3-8 %. A head stands on every decoder level: L1 at 1/16, L2 at 1/8, L3 at 1/4, each
full-size after its shuffle. All INT8; BN folds into every convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.core.registry import lookup, registry
from edge_unet.models.blocks import conv_bn, init_head, init_weights
from edge_unet.models.edge_unet_parts import (
    Block,
    HeadKind,
    Heads,
    Join,
    Residual,
    SkipKind,
    StemKind,
    conv3,
    patches,
    stem,
)


@dataclass(frozen=True)
class Stage:
    """One encoder level: `blocks` residual blocks of `channels` behind a convolution of stride 2 (stem: 4)."""

    channels: int
    blocks: int
    kind: Block = "dense"
    """dense: two 3x3; large: depthwise 5x5 and 1x1."""
    kernel: int = 3
    """Of the convolution in front: 3, or 2 (cheaper, no overlap)."""


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
        ("nano", Plan((Stage(64, 1), Stage(64, 1), Stage(128, 1)), (Step(64), Step(64)))),
        ("small", Plan((Stage(64, 2), Stage(128, 2), Stage(256, 2)), (Step(128), Step(64)))),
        ("base", Plan((Stage(64, 3), Stage(128, 5), Stage(256, 5)), (Step(128, 2), Step(64, 2)))),
        ("large", Plan((Stage(128, 4), Stage(128, 6), Stage(256, 7)), (Step(128, 2), Step(128, 2)))),
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
        (
            "nano-deep",
            Plan((*_NANO.stages, Stage(192, 2, "large", 2)), (Step(128, kind="large"), Step(64), Step(64))),
        ),
        ("nano-large", replace(_NANO, stages=(*_NANO.stages[:2], Stage(128, 2, "large")))),
    )
)
"""Other stems, heads, skips and blocks of nano, measured for docs/decisions/0018: a recipe can name them, no preset
does."""

PRESETS = tuple(
    (f"edge_unet-{name}", ModelSpec(name="edge_unet", variant=name, depth=len(plan.stages) + 1, deep=True))
    for name, plan in PLANS.items()
)


class EdgeUNet(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (L1, …, Ln, mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of the coarsest level's stride (16; portable: 32).
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        plan = lookup({**PLANS, **TRIED}, spec.variant or "nano", "edge_unet variant")
        if spec.depth != len(plan.stages) + 1:
            raise UsageError(
                f"edge_unet {spec.variant or 'nano'} has model.depth = {len(plan.stages) + 1}, received {spec.depth}"
            )
        self.encoder = nn.ModuleList()
        cin = in_channels
        for number, stage in enumerate(plan.stages):
            if number == 0:
                down = stem(cin, stage.channels, plan.stem)
            elif stage.kernel == 2:
                down = patches(cin, stage.channels, 2)
            else:
                down = conv3(cin, stage.channels, stride=2, branches=plan.branches)
            blocks = [Residual(stage.channels, stage.kind, plan.branches) for _ in range(stage.blocks)]
            self.encoder.append(nn.Sequential(down, *blocks))
            cin = stage.channels
        self.detail = conv_bn(in_channels, plan.detail, 3, stride=2) if plan.detail else None
        widths = [*([plan.detail] if plan.detail else []), *(stage.channels for stage in plan.stages)]
        self.decoder = nn.ModuleList()
        for step, skip in zip(plan.steps, reversed(widths[:-1]), strict=True):
            self.decoder.append(Join(cin, skip, step.channels, step.convs, step.kind, plan.skip, plan.branches))
            cin = step.channels
        finest = 2 if plan.detail else 4
        strides = [finest * 2**n for n in range(len(widths))][::-1]
        self.heads = Heads([widths[-1], *(step.channels for step in plan.steps)], strides, classes, plan.head)
        init_weights(self)
        init_head(self.heads)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) normalised frame -> (L1, …, Ln, mean), each (N, classes, H, W)."""
        taps = [self.detail(x)] if self.detail is not None else []  # [(N, detail, H / 2, W / 2)]
        for level in self.encoder:
            x = level(x)  # (N, channels, H / 2**(n + 2), W / 2**(n + 2))
            taps.append(x)
        made = [x]
        for join, skip in zip(self.decoder, reversed(taps[:-1]), strict=True):
            made.append(join(made[-1], skip))  # (N, channels, H / s, W / s)
        levels: tuple[Tensor, ...] = self.heads(made)
        return levels
