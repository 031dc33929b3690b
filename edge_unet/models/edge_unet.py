"""edge_unet: a U-Net of dense 3x3 convolutions at 1/4 and below, shaped by what INT8 kernels do fast.

Nothing is computed at full size: the stem is one 4x4 convolution of stride 4, every level is residual 3x3 pairs (or,
in the portable line, depthwise 5x5 with 1x1 at 1/16), a skip is an add, and a head is a 1x1 convolution to s*s
channels whose depth is moved to space. That reaches 50-75 % of the best convolution's rate where inverted residuals
and thin full-size layers reach 3-8 %. A head stands on every decoder level: L1 at 1/16, L2 at 1/8, L3 at 1/4, each
full-size after its shuffle. All INT8; BN folds into every convolution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.core.registry import lookup, registry
from edge_unet.models.blocks import conv_bn, fixed_conv, init_head, init_weights, logit_clip, upsample

Block = Literal["dense", "large"]


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
    """Encoder from 1/4 downwards; decoder from the second coarsest level upwards, one step less."""

    stages: tuple[Stage, ...]
    steps: tuple[Step, ...]


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

PRESETS = tuple(
    (f"edge_unet-{name}", ModelSpec(name="edge_unet", variant=name, depth=len(plan.stages) + 1, deep=True))
    for name, plan in PLANS.items()
)


class Residual(nn.Module):
    """x + body(x), ReLU6: two 3x3 convolutions, or a depthwise 5x5 and a 1x1."""

    def __init__(self, channels: int, kind: Block) -> None:
        super().__init__()
        if kind == "dense":
            self.body = nn.Sequential(conv_bn(channels, channels, 3), conv_bn(channels, channels, 3, act=False))
        else:
            self.body = nn.Sequential(
                conv_bn(channels, channels, 5, groups=channels), conv_bn(channels, channels, 1, act=False)
            )
        self.act = nn.ReLU6(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y: Tensor = self.act(x + self.body(x))
        return y


class DepthToSpace(nn.Module):
    """(N, C * r * r, H, W) -> (N, C, H * r, W * r), channel order of nn.PixelShuffle.

    Written as reshapes and one transpose of rank 5, which every runtime has and no runtime gets wrong.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C * r * r, H, W) -> (N, C, H * r, W * r)."""
        r = self.factor
        batch, deep, height, width = x.shape
        channels = deep // (r * r)
        x = x.reshape(batch * channels, r, r, height, width)  # (N * C, r, r, H, W)
        x = x.permute(0, 3, 1, 4, 2)  # (N * C, H, r, W, r)
        return x.reshape(batch, channels, height * r, width * r)  # (N, C, H * r, W * r)


def patches(cin: int, cout: int, size: int) -> nn.Sequential:
    """A convolution whose kernel is its stride, BN, ReLU6: no pixel is read twice."""
    return nn.Sequential(
        nn.Conv2d(cin, cout, size, size, bias=False), nn.BatchNorm2d(cout), nn.ReLU6(inplace=False)
    )  # (N, cout, H / size, W / size)


class Join(nn.Module):
    """One decoder level: the coarse map narrowed and doubled, the skip added, convolved."""

    def __init__(self, coarse: int, skip: int, step: Step) -> None:
        super().__init__()
        self.narrow = conv_bn(coarse, step.channels, 1)
        self.up = upsample("nearest")
        self.fit = nn.Identity() if skip == step.channels else conv_bn(skip, step.channels, 1, act=False)
        self.act = nn.ReLU6(inplace=False)
        convs: list[nn.Module] = [conv_bn(step.channels, step.channels, 3) for _ in range(step.convs)]
        if step.kind == "large":
            convs = [
                conv_bn(step.channels, step.channels, 5, groups=step.channels),
                conv_bn(step.channels, step.channels, 1),
            ]
        self.convs = nn.Sequential(*convs)

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(N, coarse, H, W), (N, skip, 2H, 2W) -> (N, channels, 2H, 2W)."""
        x = self.up(self.narrow(coarse))  # (N, channels, 2H, 2W)
        y: Tensor = self.convs(self.act(x + self.fit(skip)))
        return y


class ShuffleHeads(nn.Module):
    """A 1x1 convolution to classes * s * s channels per decoder output, its depth moved to space, and the mean of all.

    `strides`: input pixels per pixel of each feature map, L1 (coarsest) first.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, classes * s * s, 1) for c, s in zip(channels, strides, strict=True))
        self.clip = logit_clip()
        self.shuffle = nn.ModuleList(DepthToSpace(s) for s in strides)
        count = len(channels)
        self.mean = fixed_conv((torch.eye(classes) / count).repeat(1, count)[:, :, None, None])

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """[(N, channels[i], H / strides[i], W / strides[i])] -> (L1, …, Ln, mean), each (N, classes, H, W)."""
        levels = [
            shuffle(self.clip(conv(x)))  # (N, classes, H, W)
            for x, conv, shuffle in zip(features, self.convs, self.shuffle, strict=True)
        ]
        return (*levels, self.mean(torch.cat(levels, dim=1)))


class EdgeUNet(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (L1, …, Ln, mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of the coarsest level's stride (16; portable: 32).
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        plan = lookup(PLANS, spec.variant or "nano", "edge_unet variant")
        if spec.depth != len(plan.stages) + 1:
            raise UsageError(
                f"edge_unet {spec.variant or 'nano'} has model.depth = {len(plan.stages) + 1}, received {spec.depth}"
            )
        self.encoder = nn.ModuleList()
        cin = in_channels
        for number, stage in enumerate(plan.stages):
            if number == 0:
                down = patches(cin, stage.channels, 4)
            elif stage.kernel == 2:
                down = patches(cin, stage.channels, 2)
            else:
                down = conv_bn(cin, stage.channels, 3, stride=2)
            blocks = [Residual(stage.channels, stage.kind) for _ in range(stage.blocks)]
            self.encoder.append(nn.Sequential(down, *blocks))
            cin = stage.channels
        self.decoder = nn.ModuleList()
        widths = [stage.channels for stage in plan.stages]
        for step, skip in zip(plan.steps, reversed(widths[:-1]), strict=True):
            self.decoder.append(Join(cin, skip, step))
            cin = step.channels
        strides = [4 * 2**n for n in range(len(widths))][::-1]
        self.heads = ShuffleHeads([widths[-1], *(step.channels for step in plan.steps)], strides, classes)
        init_weights(self)
        init_head(self.heads)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) normalised frame -> (L1, …, Ln, mean), each (N, classes, H, W)."""
        taps = []
        for level in self.encoder:
            x = level(x)  # (N, channels, H / 2**(n + 2), W / 2**(n + 2))
            taps.append(x)
        made = [x]
        for join, skip in zip(self.decoder, reversed(taps[:-1]), strict=True):
            made.append(join(made[-1], skip))  # (N, channels, H / s, W / s)
        levels: tuple[Tensor, ...] = self.heads(made)
        return levels
