"""Normalisation that BatchNorm cannot stand in for."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.models.islands import FloatIsland


class ChannelNorm(FloatIsland):
    """LayerNorm over the channels of every pixel, with gain and offset: a float island.

    One LayerNormalization between two transposes in ONNX, which every runtime has a float kernel for.
    """

    reason = "variance over channels needs more than 8 bits; every runtime has a float LayerNorm"

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W), mean 0 and variance 1 over C before gain and offset."""
        last = x.permute(0, 2, 3, 1)  # (N, H, W, C)
        normed = functional.layer_norm(last, self.weight.shape, self.weight, self.bias, self.eps)
        return normed.permute(0, 3, 1, 2)  # (N, C, H, W)
