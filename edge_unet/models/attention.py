"""Attention and context blocks that quantize: each is made of convolutions, pooling, sigmoid and products.

The gates (ChannelAttention, SpatialAttention, EfficientChannelAttention, AttentionGate) return what the caller
multiplies its tensor by: `x * gate(x)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.models.blocks import average_pool, conv_bn, fixed_conv, upsample


class ChannelAttention(nn.Module):
    """Channel gate of CBAM (Woo et al. 2018) as U-Net v2 uses it: one bias-free MLP C -> C / reduction -> C on the
    global mean and on the global maximum, summed, sigmoid. The MLP's hidden width is at least 1."""

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.squeeze = nn.Conv2d(channels, hidden, 1, bias=False)
        self.act = nn.ReLU(inplace=False)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=False)
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the gate (N, C, 1, 1) in 0..1."""
        mean = self.expand(self.act(self.squeeze(self.mean(x))))  # (N, C, 1, 1)
        peak = self.expand(self.act(self.squeeze(torch.amax(x, dim=(2, 3), keepdim=True))))  # (N, C, 1, 1)
        gate: Tensor = self.gate(mean + peak)
        return gate


class SpatialAttention(nn.Module):
    """Spatial gate of CBAM (Woo et al. 2018): a bias-free 7x7 conv over [mean, maximum] of the channels, sigmoid.

    The mean is a 1x1 conv with constant weights 1 / C: it rounds alike in every integer kernel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = fixed_conv(torch.full((1, channels, 1, 1), 1 / channels))
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the gate (N, 1, H, W) in 0..1."""
        peak = torch.amax(x, dim=1, keepdim=True)  # (N, 1, H, W)
        gate: Tensor = self.gate(self.conv(torch.cat((self.mean(x), peak), dim=1)))  # (N, 1, H, W)
        return gate


class EfficientChannelAttention(nn.Module):
    """ECA (Wang et al. 2020): a 1-D convolution along the channels' global means, sigmoid. k parameters, no more.

    k is |log2(C) / 2 + 1/2|, made odd. The convolution runs as a k x 1 Conv2d over the means laid out as (N, 1, C, 1),
    which is static: no Conv1d, no squeeze. In INT8 its k weights have one scale, and each output is the exact int32 sum
    of k products; the transposes only move codes.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        length = int(abs(math.log2(channels) / 2 + 0.5))
        kernel = length if length % 2 else length + 1
        self.mean = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv2d(1, 1, (kernel, 1), padding=(kernel // 2, 0), bias=False)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the gate (N, C, 1, 1) in 0..1."""
        along = self.mean(x).transpose(1, 2)  # (N, 1, C, 1)
        gate: Tensor = self.gate(self.conv(along).transpose(1, 2))  # (N, C, 1, 1)
        return gate


class AttentionGate(nn.Module):
    """Additive attention gate (Oktay et al. 2018, eq. 1): sigmoid(psi(ReLU(W_g g + W_x x))), every map a 1x1 conv and
    BN, one channel out. g is the gating signal of the coarser decoder, x the skip that is gated; g is already as large
    as x. Deviation: ReLU6 in place of ReLU."""

    def __init__(self, gating: int, skip: int, hidden: int) -> None:
        super().__init__()
        self.from_gating = conv_bn(gating, hidden, 1, act=False)
        self.from_skip = conv_bn(skip, hidden, 1, act=False)
        self.act = nn.ReLU6(inplace=False)
        self.psi = conv_bn(hidden, 1, 1, act=False)
        self.gate = nn.Sigmoid()

    def forward(self, gating: Tensor, skip: Tensor) -> Tensor:
        """(N, gating, H, W), (N, skip, H, W) -> the gate (N, 1, H, W) in 0..1."""
        joined = self.act(self.from_gating(gating) + self.from_skip(skip))  # (N, hidden, H, W)
        gate: Tensor = self.gate(self.psi(joined))  # (N, 1, H, W)
        return gate


class Aspp(nn.Module):
    """Atrous spatial pyramid pooling (DeepLabv3, Chen et al. 2017, section 3.3): 1x1, dilated 3x3s and the image's
    mean, joined by a 1x1 conv.

    Choose rates below half the map: a larger one reads padding only. Deviations: the image's mean is repeated (nearest)
    instead of resized bilinearly, which is the same for one pixel; its conv has a bias and no BN, whose statistics
    would be over the batch alone; ReLU6.
    """

    def __init__(self, cin: int, cout: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_bn(cin, cout, 1), *(_dilated(cin, cout, rate) for rate in rates)])
        self.image = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(cin, cout, 1), nn.ReLU6(inplace=False))
        self.project = conv_bn((len(rates) + 2) * cout, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H, W)."""
        image = functional.interpolate(self.image(x), size=x.shape[2:], mode="nearest")  # (N, cout, H, W)
        joined = torch.cat([*(branch(x) for branch in self.branches), image], dim=1)  # (N, …, H, W)
        y: Tensor = self.project(joined)  # (N, cout, H, W)
        return y


def _dilated(cin: int, cout: int, rate: int) -> nn.Sequential:
    """3x3 conv with that dilation, BN, ReLU6."""
    conv = nn.Conv2d(cin, cout, 3, padding=rate, dilation=rate, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(cout), nn.ReLU6(inplace=False))


class PyramidPooling(nn.Module):
    """Pyramid pooling (PSPNet, Zhao et al. 2017): means over factor x factor pixels, each through a 1x1 conv and back
    to full size, beside the input.

    Deviations: constant kernels (`factors`, which divide H and W) instead of 1, 2, 3 and 6 adaptive bins, of which
    uneven ones do not export; nearest by default; ReLU6; no 3x3 conv behind it. A factor of the whole map leaves BN one
    pixel per image.
    """

    def __init__(
        self, cin: int, cout: int, factors: Sequence[int], mode: Literal["nearest", "bilinear"] = "nearest"
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(average_pool(cin, factor), conv_bn(cin, cout, 1), upsample(mode, factor))
            for factor in factors
        )
        self.project = conv_bn(cin + len(factors) * cout, cout, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H, W)."""
        joined = torch.cat([x, *(branch(x) for branch in self.branches)], dim=1)  # (N, …, H, W)
        y: Tensor = self.project(joined)  # (N, cout, H, W)
        return y
