"""LR-ASPP on MobileNetV3-Large (Howard et al. 2019): the segmentation network of the MobileNetV3 paper.

Encoder with the last three blocks dilated by 2 instead of a last stride, so that it ends at 1/16; head: 1x1 to 128
gated by a sigmoid of the pooled features, resized to 1/8, and two 1x1 classifiers added, one on the encoder's 40
channels at 1/8. Deviations, both of the ports in use: the gate pools the whole map (the paper: 49x49 with stride
16x20), and the tap at 1/8 is the first block of that stride.
"""

from __future__ import annotations

from dataclasses import dataclass

from peers.layers import conv_bn, init_he, init_head, resize_to
from torch import Tensor, nn

STEM, WIDE, HEAD = 16, 960, 128


@dataclass(frozen=True)
class Row:
    """One row of the paper's table 1. `hard`: h-swish, else ReLU."""

    kernel: int
    hidden: int
    channels: int
    squeeze: bool
    hard: bool
    stride: int = 1
    dilation: int = 1


ROWS = (
    Row(3, 16, 16, False, False),
    Row(3, 64, 24, False, False, stride=2),
    Row(3, 72, 24, False, False),
    Row(5, 72, 40, True, False, stride=2),
    Row(5, 120, 40, True, False),
    Row(5, 120, 40, True, False),
    Row(3, 240, 80, False, True, stride=2),
    Row(3, 200, 80, False, True),
    Row(3, 184, 80, False, True),
    Row(3, 184, 80, False, True),
    Row(3, 480, 112, True, True),
    Row(3, 672, 112, True, True),
    Row(5, 672, 160, True, True, dilation=2),
    Row(5, 960, 160, True, True, dilation=2),
    Row(5, 960, 160, True, True, dilation=2),
)
LOW = 3
"""The row whose 40 channels at 1/8 go to the head."""


def _act(hard: bool) -> nn.Module:
    return nn.Hardswish() if hard else nn.ReLU()


def _to_8(channels: int) -> int:
    """The nearest multiple of 8, at least 8, not below 90 % of the wish."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class Squeeze(nn.Module):
    """Channels times a hard sigmoid of two 1x1 convolutions on their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = _to_8(channels // 4)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, width, 1), nn.ReLU(), nn.Conv2d(width, channels, 1),
            nn.Hardsigmoid(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y: Tensor = x * self.gate(x)  # gate: (N, C, 1, 1)
        return y


class Block(nn.Module):
    """1x1 expand, depthwise, squeeze where the row says so, linear 1x1; added to its input where the shape stays."""

    def __init__(self, cin: int, row: Row) -> None:
        super().__init__()
        hidden, reach = row.hidden, (row.kernel - 1) // 2 * row.dilation
        layers: list[nn.Module] = []
        if hidden != cin:
            layers += [conv_bn(cin, hidden, 1, act=False), _act(row.hard)]
        depthwise = nn.Conv2d(
            hidden, hidden, row.kernel, row.stride, reach, dilation=row.dilation, groups=hidden, bias=False
        )
        layers += [depthwise, nn.BatchNorm2d(hidden), _act(row.hard)]
        layers += [Squeeze(hidden)] if row.squeeze else []
        self.body = nn.Sequential(*layers, conv_bn(hidden, row.channels, 1, act=False))
        self.adds = row.stride == 1 and cin == row.channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, channels, H/stride, W/stride)."""
        y: Tensor = self.body(x)
        return x + y if self.adds else y


class LRASPPMobileNetV3(nn.Module):
    """(N, 3, H, W) -> (N, classes, H, W) logits. H, W: multiples of 16."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, STEM, 3, 2, act=False), nn.Hardswish())
        sources = (STEM, *(row.channels for row in ROWS[:-1]))
        self.blocks = nn.ModuleList(Block(cin, row) for cin, row in zip(sources, ROWS, strict=True))
        self.widen = nn.Sequential(conv_bn(ROWS[-1].channels, WIDE, 1, act=False), nn.Hardswish())
        self.high = conv_bn(WIDE, HEAD, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(WIDE, HEAD, 1, bias=False), nn.Sigmoid())
        self.of_low, self.of_high = nn.Conv2d(ROWS[LOW].channels, classes, 1), nn.Conv2d(HEAD, classes, 1)
        init_he(self)
        init_head(self.of_low)
        init_head(self.of_high)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised frame -> (N, classes, H, W) logits."""
        y = self.stem(x)  # (N, 16, H/2, W/2)
        low = y
        for place, block in enumerate(self.blocks):
            y = block(y)
            low = y if place == LOW else low  # (N, 40, H/8, W/8)
        y = self.widen(y)  # (N, 960, H/16, W/16)
        y = self.high(y) * self.gate(y)  # (N, 128, H/16, W/16)
        logits = self.of_low(low) + self.of_high(resize_to(y, low))  # (N, classes, H/8, W/8)
        return resize_to(logits, x)  # (N, classes, H, W)
