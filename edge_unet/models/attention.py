"""Attention and context blocks that quantize: each is made of convolutions, pooling, sigmoid and products.

The gates (ChannelAttention, SpatialAttention) return what the caller multiplies its tensor by: `x * gate(x)`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_unet.models.blocks import fixed_conv


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
