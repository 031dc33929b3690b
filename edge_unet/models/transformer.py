"""What transformers over feature maps share: linear layers as 1x1 convolutions, attention and position embedding as
float islands.

Tokens are the positions of a (N, C, H, W) map; nothing is reshaped outside an island. Every product with a weight is
a convolution in INT8, the product of two activations is float.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.models.islands import FloatIsland

LINEAR_STD = 0.02
"""Of the truncated normal that linear layers and position embeddings start from (ViT, PVT)."""


def linear(cin: int, cout: int) -> nn.Conv2d:
    """A linear layer with bias on every position of a map."""
    conv = nn.Conv2d(cin, cout, 1)
    nn.init.trunc_normal_(conv.weight, std=LINEAR_STD)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class TokenAttention(FloatIsland):
    """Scaled dot-product attention (Vaswani et al. 2017) between maps. Head h owns channels h * C / heads onwards."""

    reason: ClassVar[str] = "softmax spans many octaves: at int8 the small attention weights of long rows become zero"

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, C, H, W), (N, C, h, w), (N, C, h, w) -> (N, C, H, W)."""
        n, channels, height, width = query.shape
        depth = channels // self.heads
        rows = query.reshape(n, self.heads, depth, height * width).transpose(2, 3)  # (N, heads, H * W, depth)
        columns = key.reshape(n, self.heads, depth, -1)  # (N, heads, depth, h * w)
        values = value.reshape(n, self.heads, depth, -1).transpose(2, 3)  # (N, heads, h * w, depth)
        # Scaled before the product, which then stays within fp16.
        weights = torch.softmax((rows * depth**-0.5) @ columns, dim=-1)  # (N, heads, H * W, h * w)
        mixed = weights @ values  # (N, heads, H * W, depth)
        return mixed.transpose(2, 3).reshape(n, channels, height, width)  # (N, C, H, W)


class PositionEmbedding(FloatIsland):
    """Adds a learned map (1, C, h, w), one vector per position of a map at 1 / `stride`.

    `fit` lays it out for an input size; maps of another size (progressive training) get it resized bilinearly.
    """

    reason: ClassVar[str] = "a constant added to a tensor has no integer kernel of its own; int8 would round it twice"

    def __init__(self, channels: int, stride: int, height: int = 224, width: int = 224) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        self.fit(height, width)

    def fit(self, height: int, width: int) -> None:
        """Start afresh for an input of height x width pixels."""
        self.embedding = nn.Parameter(torch.empty(1, self.channels, height // self.stride, width // self.stride))
        nn.init.trunc_normal_(self.embedding, std=LINEAR_STD)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        added: Tensor = self.embedding
        if x.shape[2:] != added.shape[2:]:
            added = functional.interpolate(added, size=x.shape[2:], mode="bilinear", align_corners=False)
        return x + added


def fit_positions(net: nn.Module, height: int, width: int) -> None:
    """Lay out every position embedding of a new network for its input size in pixels."""
    for module in net.modules():
        if isinstance(module, PositionEmbedding):
            module.fit(height, width)
