"""PIDNet-S (Xu, Xiong & Bhattacharyya 2023): a detail, a context and a boundary branch, fused by gates.

P stays at 1/8, I goes to 1/64, D (boundaries) stays at 1/8. Pag takes from I into P where both agree, PAPPM pools
context, and the light bag lets the boundaries choose between P and I. Deviations: the two auxiliary heads of training
(one on P, one on D) are left out, as in the paper's inference network; no bias in
front of BN (the authors' code has one in the stem).
"""

from __future__ import annotations

import torch
from peers.layers import (
    ContextBranches,
    Trunk,
    basic_block,
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
CONTEXT_WIDTH, HEAD_WIDTH = 96, 128
SHALLOW, DEEP = 2, 3
"""Blocks per stage up to 1/8 and in P, and of I at 1/16 and 1/32."""


class Pag(nn.Module):
    """Pixel attention: sigmoid of the scalar product of both features says how much of I comes into P."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.of_detail = conv_bn(channels, width, 1, act=False)
        self.of_context = conv_bn(channels, width, 1, act=False)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """(N, C, H, W), (N, C, h, w) -> (N, C, H, W)."""
        product = self.of_detail(detail) * resize_to(self.of_context(context), detail)
        share = torch.sigmoid(product.sum(dim=1, keepdim=True))  # (N, 1, H, W)
        return (1 - share) * detail + share * resize_to(context, detail)


class Pappm(nn.Module):
    """Parallel aggregation pyramid pooling: all scales through one grouped 3x3 at once."""

    def __init__(self, cin: int, width: int, cout: int) -> None:
        super().__init__()
        self.branches = ContextBranches(cin, width)
        scales = len(self.branches.pools)
        self.together = pre_conv(width * scales, width * scales, 3, groups=scales)
        self.join = pre_conv(width * (1 + scales), cout, 1)
        self.shortcut = pre_conv(cin, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H, W)."""
        first, *others = self.branches(x)
        scales = self.together(torch.cat([scale + first for scale in others], dim=1))  # (N, 4 * width, H, W)
        y: Tensor = self.join(torch.cat((first, scales), dim=1)) + self.shortcut(x)
        return y


class LightBag(nn.Module):
    """Boundary attention: P where there is an edge, I elsewhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_detail = conv_bn(channels, channels, 1, act=False)
        self.of_context = conv_bn(channels, channels, 1, act=False)

    def forward(self, detail: Tensor, context: Tensor, boundary: Tensor) -> Tensor:
        """Three of (N, C, H, W) -> (N, C, H, W)."""
        edge = torch.sigmoid(boundary)
        y: Tensor = self.of_detail((1 - edge) * context + detail) + self.of_context(context + edge * detail)
        return y


class PIDNetS(nn.Module):
    """(N, 3, H, W) -> (N, classes, H, W) logits. H, W: multiples of 32, best 64."""

    def __init__(self, classes: int = 1) -> None:
        super().__init__()
        w = WIDTH
        self.trunk = Trunk(w, SHALLOW)
        self.context3 = stage(2 * w, 4 * w, DEEP, 2, relu=False)
        self.context4 = stage(4 * w, 8 * w, DEEP, 2, relu=False)
        self.context5 = nn.Sequential(bottleneck(8 * w, 8 * w, 2), bottleneck(16 * w, 8 * w, relu=False))
        self.detail3 = stage(2 * w, 2 * w, SHALLOW, relu=False)
        self.detail4 = stage(2 * w, 2 * w, SHALLOW, relu=False)
        self.detail5 = bottleneck(2 * w, 2 * w, relu=False)
        self.boundary3 = basic_block(2 * w, w, relu=False)
        self.boundary4 = bottleneck(w, w, relu=False)
        self.boundary5 = bottleneck(2 * w, 2 * w, relu=False)
        self.narrow3, self.narrow4 = conv_bn(4 * w, 2 * w, 1, act=False), conv_bn(8 * w, 2 * w, 1, act=False)
        self.pag3, self.pag4 = Pag(2 * w, w), Pag(2 * w, w)
        self.edge3, self.edge4 = conv_bn(4 * w, w, 3, act=False), conv_bn(8 * w, 2 * w, 3, act=False)
        self.pool = Pappm(16 * w, CONTEXT_WIDTH, 4 * w)
        self.fuse = LightBag(4 * w)
        self.head = segmentation_head(4 * w, HEAD_WIDTH, classes)
        self.act = nn.ReLU()
        init_he(self)
        init_head(self.head[-1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised frame -> (N, classes, H, W) logits."""
        act = self.act
        fine = self.trunk(x)  # (N, 64, H/8, W/8)
        detail, boundary = self.detail3(fine), self.boundary3(fine)  # (N, 64 | 32, H/8, W/8)
        context = act(self.context3(fine))  # (N, 128, H/16, W/16)
        detail = self.pag3(detail, self.narrow3(context))
        boundary = boundary + resize_to(self.edge3(context), boundary)
        context = act(self.context4(context))  # (N, 256, H/32, W/32)
        detail, boundary = self.detail4(act(detail)), self.boundary4(act(boundary))  # (N, 64, H/8, W/8)
        detail = self.pag4(detail, self.narrow4(context))
        boundary = boundary + resize_to(self.edge4(context), boundary)
        detail, boundary = self.detail5(act(detail)), self.boundary5(act(boundary))  # (N, 128, H/8, W/8)
        context = resize_to(self.pool(self.context5(context)), detail)  # (N, 128, H/8, W/8)
        logits = self.head(self.fuse(detail, context, boundary))  # (N, classes, H/8, W/8)
        return resize_to(logits, x)  # (N, classes, H, W)
