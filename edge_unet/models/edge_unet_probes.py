"""What an edge_unet is made of, and small networks that hold one part n times, to time it by difference.

    time(plan) = frame(stem, head) + Σ blocks + Σ downs + Σ lifts + Σ fits (point) + Σ convs

    frame  stem, depth-to-space head, and what every call costs          lift   1x1, x2, add of the skip, ReLU6
    block  a residual block        conv  the 3x3 (or 5x5 and 1x1) of a decoder step
    down   the convolution in front of a stage                           point  a 1x1 that fits a skip to its step

A part is repeated in a chain at the size it has in the network. A down is repeated as a valley, down and up again; its
lift is subtracted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from edge_unet.core.errors import UsageError
from edge_unet.models.blocks import conv_bn, init_head, init_weights, logit_clip
from edge_unet.models.edge_unet_parts import DepthToSpace, Join, Residual, patches
from edge_unet.models.edge_unet_plan import Plan, format_plan

Kind = Literal["frame", "block", "conv", "down", "lift", "point"]
SHORT, LONG = 1, 5
"""Repeats in the two chains."""
STEM = 4
"""Stride of the stem, and of the head."""


@dataclass(frozen=True)
class Part:
    """One part. `stride`: input pixels per pixel of its result. `style`: dense, large, k3, k2, or nothing."""

    kind: Kind
    style: str
    cin: int
    cout: int
    stride: int

    @property
    def key(self) -> str:
        """'block dense 64 @4': what a table calls it."""
        widths = str(self.cin) if self.cin == self.cout else f"{self.cin}-{self.cout}"
        return " ".join(filter(None, (self.kind, self.style, widths, f"@{self.stride}")))

    @property
    def entry_stride(self) -> int:
        """Stride of the map that a probe begins with."""
        return self.stride // 2 if self.kind == "down" else self.stride

    @property
    def counts(self) -> tuple[int, ...]:
        """Repeats of the probes whose times are subtracted; one probe alone for the frame."""
        return (1,) if self.kind == "frame" else (SHORT, LONG)

    @property
    def per_link(self) -> int:
        """How often a link holds it: a point goes there and back."""
        return 2 if self.kind == "point" else 1

    @property
    def minus(self) -> tuple[Part, ...]:
        """Parts that each link holds beside it."""
        if self.kind == "down":
            return (Part("lift", "", self.cout, self.cin, self.stride // 2),)
        if self.kind == "frame" and self.cin != self.cout:
            return (Part("point", "", self.cin, self.cout, self.stride),)
        return ()


def predictable(plan: Plan) -> bool:
    """Whether every part of the plan has a probe."""
    return (plan.stem, plan.head, plan.skip, plan.detail) == ("patch", "shuffle", "add", 0)


def parts_of(plan: Plan) -> list[Part]:
    """Every part of the network that ends in its deepest head, repeats included. Raises UsageError for a plan with
    another stem, head or skip, or a branch at 1/2: their parts have no probe. (Branches of a 3x3 are folded away.)"""
    if not predictable(plan):
        raise UsageError(f"edge_unet plan {format_plan(plan)!r}: parts of its stem, head or skips cannot be predicted")
    parts = [Part("frame", "", plan.stages[0].channels, plan.steps[-1].channels, STEM)]
    for number, stage in enumerate(plan.stages):
        stride = STEM * 2**number
        if number:
            before = plan.stages[number - 1].channels
            parts.append(Part("down", f"k{stage.kernel}", before, stage.channels, stride))
        parts += [Part("block", stage.kind, stage.channels, stage.channels, stride)] * stage.blocks
    coarse = plan.stages[-1].channels
    for number, step in enumerate(plan.steps):
        skip = plan.stages[-2 - number].channels
        stride = STEM * 2 ** (len(plan.stages) - 2 - number)
        parts.append(Part("lift", "", coarse, step.channels, stride))
        if skip != step.channels:
            parts.append(Part("point", "", skip, step.channels, stride))
        parts += [Part("conv", step.kind, step.channels, step.channels, stride)] * step.convs
        coarse = step.channels
    return parts


class Lift(nn.Module):
    """A decoder level without its convolutions."""

    def __init__(self, coarse: int, channels: int) -> None:
        super().__init__()
        self.join = Join(coarse, channels, channels, 1, "dense")
        self.join.convs = nn.Sequential()

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(N, coarse, H, W), (N, channels, 2H, 2W) -> (N, channels, 2H, 2W)."""
        y: Tensor = self.join(coarse, skip)
        return y


class Valley(nn.Module):
    """Down and up again."""

    def __init__(self, part: Part) -> None:
        super().__init__()
        two = part.style == "k2"
        self.down = patches(part.cin, part.cout, 2) if two else conv_bn(part.cin, part.cout, 3, stride=2)
        self.lift = Lift(part.cout, part.cin)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cin, H, W)."""
        y: Tensor = self.lift(self.down(x), x)
        return y


class Probe(nn.Module):
    """(N, in_channels, H, W) frame -> `count` times a part -> one logit per pixel of its map.

    The frame is as large as it takes to come to the part's map by a stem of stride 4; see `probe_size`.
    """

    def __init__(self, part: Part, count: int, in_channels: int) -> None:
        super().__init__()
        width = part.cout if part.kind == "lift" else part.cin
        self.entry = patches(in_channels, width, STEM)
        self.coarse = patches(width, part.cin, 2) if part.kind == "lift" else None
        self.links = nn.ModuleList(_link(part) for _ in range(count))
        self.exit = nn.Conv2d(width, 1, 1)
        self.clip = logit_clip()
        init_weights(self)
        init_head(self.exit)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, 1, H / 4, W / 4)."""
        x = self.entry(x)  # (N, width, H / 4, W / 4)
        coarse = None if self.coarse is None else self.coarse(x)  # (N, cin, H / 8, W / 8)
        for link in self.links:
            x = link(x) if coarse is None else link(coarse, x)
        y: Tensor = self.clip(self.exit(x))
        return y


class Frame(nn.Module):
    """The stem and the head alone, and a 1x1 between them where their widths differ."""

    def __init__(self, stem: int, head: int, in_channels: int, classes: int) -> None:
        super().__init__()
        self.stem = patches(in_channels, stem, STEM)
        self.fit = nn.Identity() if stem == head else conv_bn(stem, head, 1)
        self.head = nn.Conv2d(head, classes * STEM * STEM, 1)
        self.clip = logit_clip()
        self.shuffle = DepthToSpace(STEM)
        init_weights(self)
        init_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, classes, H, W)."""
        y: Tensor = self.shuffle(self.clip(self.head(self.fit(self.stem(x)))))
        return y


def probe(part: Part, count: int, in_channels: int, classes: int) -> nn.Module:
    """The network to time; of the frame there is one."""
    if part.kind == "frame":
        return Frame(part.cin, part.cout, in_channels, classes)
    return Probe(part, count, in_channels)


def probe_size(part: Part, height: int, width: int) -> tuple[int, int]:
    """Size of a probe's frame for a network with frames of (height, width)."""
    scale = part.entry_stride // STEM
    return height // scale, width // scale


def _link(part: Part) -> nn.Module:
    if part.kind == "block":
        return Residual(part.cin, "large" if part.style == "large" else "dense")
    if part.kind == "conv":
        return Join(part.cin, part.cin, part.cin, 1, "large" if part.style == "large" else "dense").convs
    if part.kind == "point":
        return nn.Sequential(conv_bn(part.cin, part.cout, 1), conv_bn(part.cout, part.cin, 1))
    return Valley(part) if part.kind == "down" else Lift(part.cin, part.cout)
