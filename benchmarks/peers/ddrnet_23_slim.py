"""DDRNet-23-slim (Hong et al. 2021, "Deep dual-resolution networks"): a branch at 1/8 beside one that goes to 1/64.

The branches exchange features after the stages at 1/16 and 1/32; DAPPM pools context at 1/64; one head at 1/8 and a
bilinear resize to full size. Deviations: no auxiliary head (the paper trains with one after the first exchange),
no bias in front of BN (the authors' code has one in the stem).
"""

from __future__ import annotations

import torch
from peers.layers import (
    ContextBranches,
    Trunk,
    bottleneck,
    conv_bn,
    init_he,
    init_head,
    pre_conv,
    resize_to,
    segmentation_head,
    stage,
)
from torch import Tensor, nn

WIDTH = 32
CONTEXT_WIDTH, HEAD_WIDTH = 128, 64
BLOCKS = 2


class Dappm(nn.Module):
    """Deep aggregation pyramid pooling: each coarser scale is added to the finer one's result, then 3x3."""

    def __init__(self, cin: int, width: int, cout: int) -> None:
        super().__init__()
        self.branches = ContextBranches(cin, width)
        self.after = nn.ModuleList(pre_conv(width, width, 3) for _ in self.branches.pools)
        self.join = pre_conv(width * (1 + len(self.after)), cout, 1)
        self.shortcut = pre_conv(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H, W)."""
        first, *others = self.branches(x)
        found = [first]
        for conv, scale in zip(self.after, others, strict=True):
            found.append(conv(scale + found[-1]))  # (N, width, H, W)
        y: Tensor = self.join(torch.cat(found, dim=1)) + self.shortcut(x)
        return y


class DDRNet23Slim(nn.Module):
    """(N, 3, H, W) -> (N, classes, H, W) logits. H, W: multiples of 32, best 64."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        w = WIDTH
        self.trunk = Trunk(w, BLOCKS)
        self.low3 = stage(2 * w, 4 * w, BLOCKS, 2, relu=False)
        self.low4 = stage(4 * w, 8 * w, BLOCKS, 2, relu=False)
        self.low5 = bottleneck(8 * w, 8 * w, 2, relu=False)
        self.high3 = stage(2 * w, 2 * w, BLOCKS, relu=False)
        self.high4 = stage(2 * w, 2 * w, BLOCKS, relu=False)
        self.high5 = bottleneck(2 * w, 2 * w, relu=False)
        self.up3 = conv_bn(4 * w, 2 * w, 1, act=False)
        self.up4 = conv_bn(8 * w, 2 * w, 1, act=False)
        self.down3 = conv_bn(2 * w, 4 * w, 3, 2, act=False)
        self.down4 = nn.Sequential(conv_bn(2 * w, 4 * w, 3, 2), conv_bn(4 * w, 8 * w, 3, 2, act=False))
        self.context = Dappm(16 * w, CONTEXT_WIDTH, 4 * w)
        self.head = segmentation_head(4 * w, HEAD_WIDTH, classes)
        self.act = nn.ReLU()
        init_he(self)
        init_head(self.head[-1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised frame -> (N, classes, H, W) logits."""
        act = self.act
        fine = self.trunk(x)  # (N, 64, H/8, W/8)
        low, high = self.low3(fine), self.high3(fine)  # (N, 128, H/16, W/16), (N, 64, H/8, W/8)
        crossed = low + self.down3(act(high))
        high = high + resize_to(self.up3(act(low)), high)
        low, high = self.low4(act(crossed)), self.high4(act(high))  # (N, 256, H/32, W/32), (N, 64, H/8, W/8)
        crossed = low + self.down4(act(high))
        high = high + resize_to(self.up4(act(low)), high)
        high = self.high5(act(high))  # (N, 128, H/8, W/8)
        low = self.context(self.low5(act(crossed)))  # (N, 128, H/64, W/64)
        logits = self.head(resize_to(low, high) + high)  # (N, classes, H/8, W/8)
        return resize_to(logits, x)  # (N, classes, H, W)
