"""Mobile UNet++: the nested skips and prunable heads of UNet++ on MobileNetV2 taps.

Node X[i, j] stands at resolution 1 / 2**(i+1): X[i, 0] is the encoder's tap, X[i, j] one depthwise-separable
convolution over X[i, 0] .. X[i, j-1] and X[i+1, j-1] resized by 2. Rows have the decoder's widths (16, 32, 64, 96 at
strides 2, 4, 8, 16, times `width`). Each X[0, j], j >= 1, has a 1x1 head at 1/2, resized once: L1 .. L(depth - 1).
Level Ld runs the encoder to 1 / 2**(d+1) only. No published network: UNet++ (Zhou et al. 2020) with the parts of Mobile
U-Net. At width 1, depth 5, 256x256, one class: 1.90 M parameters, 0.571 G MACs (L1 alone:
0.017 M, 0.116 G).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.models.blocks import Heads, init_head, init_weights, resizing, round_to_8, upsample
from edge_unet.models.mobile_unet import mobilenet_v2, separable

PRESETS = tuple(
    (f"mobile_unetpp-{width}", ModelSpec(name="mobile_unetpp", width=width, deep=True)) for width in (0.5, 1.0)
)


class MobileUNetPlusPlus(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (L1, …, L(depth - 1), mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of 2**depth.
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        self.rows = spec.depth - 1
        self.stem, self.encoder, taps = mobilenet_v2(in_channels, spec.width, spec.depth)
        widths = [round_to_8(wish * spec.width) for wish in reversed(spec.decoder[-self.rows :])]  # fine to coarse
        self.up = upsample(resizing(spec.upsample, "mobile_unetpp"))
        self.node = nn.ModuleDict()
        for j in range(1, self.rows + 1):
            for i in range(self.rows + 1 - j):
                below = widths[i + 1] if j > 1 else taps[i + 1]
                self.node[f"{i}_{j}"] = separable(taps[i] + (j - 1) * widths[i] + below, widths[i])
        self.heads = Heads([widths[0]] * self.rows, [2] * self.rows, classes)
        init_weights(self)
        init_head(self.heads)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) normalised frame -> (L1, …, L(depth - 1), mean), each (N, classes, H, W)."""
        made: dict[tuple[int, int], Tensor] = {}
        x = self.stem(x)  # (N, stem, H/2, W/2)
        for total, level in enumerate(self.encoder):  # diagonal by diagonal: level Ld is done after diagonal d
            x = made[total, 0] = level(x)  # (N, tap, H/2**(total+1), W/2**(total+1))
            for j in range(1, total + 1):
                i = total - j
                row = [made[i, k] for k in range(j)]
                joined = torch.cat([*row, self.up(made[i + 1, j - 1])], dim=1)  # (N, …, H/2**(i+1), W/2**(i+1))
                made[i, j] = self.node[f"{i}_{j}"](joined)  # (N, widths[i], H/2**(i+1), W/2**(i+1))
        levels: tuple[Tensor, ...] = self.heads([made[0, j] for j in range(1, self.rows + 1)])
        return levels
