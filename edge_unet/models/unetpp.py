"""UNet++ (Zhou et al. 2018, DLMIA; 2020, TMI): a U-Net whose skips are filled with nested decoders.

Node X[i, j] stands at resolution 1 / 2**i. j = 0 is the encoder; X[i, j] reads X[i, 0] .. X[i, j-1] as they are and
X[i+1, j-1] upsampled. Each X[0, j], j >= 1, has a 1x1 head at full size (official Keras and PyTorch code): L1..Ldepth.
Level Ld needs the nodes with i + j <= d only, so that pruning leaves a UNet++ of depth d. At base 32, depth 4, deconv:
9.05 M parameters, 29.8 G MACs at 256x256. Deviations: BN and ReLU6 in place of dropout and ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.models.blocks import Heads, init_weights, resizing, upsample
from edge_unet.models.unet import double_conv

PRESETS = tuple(
    (f"unetpp-{base}", ModelSpec(name="unetpp", base=base, depth=4, upsample="deconv", deep=True))
    for base in (8, 16, 32)
)


class UNetPlusPlus(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (L1, …, Ldepth, mean), each (N, classes, H, W) logits in +-7.94.

    H, W: multiples of 2**depth.
    """

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        self.depth = spec.depth
        widths = [spec.base * 2**level for level in range(spec.depth + 1)]
        self.pool = nn.MaxPool2d(2)
        self.node = nn.ModuleDict()
        self.up = nn.ModuleDict()
        for i, width in enumerate(widths):
            self.node[f"{i}_0"] = double_conv(widths[i - 1] if i else in_channels, width)
        for j in range(1, spec.depth + 1):
            for i in range(spec.depth + 1 - j):
                deconv = spec.upsample == "deconv"
                below, width = widths[i + 1], widths[i]
                self.up[f"{i}_{j}"] = (
                    nn.ConvTranspose2d(below, width, 2, 2) if deconv else upsample(resizing(spec.upsample, "unetpp"))
                )
                self.node[f"{i}_{j}"] = double_conv(j * width + (width if deconv else below), width)
        self.heads = Heads([widths[0]] * spec.depth, [1] * spec.depth, classes)
        init_weights(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """(N, in_channels, H, W) normalised frame -> (L1, …, Ldepth, mean), each (N, classes, H, W)."""
        made: dict[tuple[int, int], Tensor] = {}
        for total in range(self.depth + 1):  # diagonal by diagonal: level Ld is done after diagonal d
            for j in range(total + 1):
                i = total - j
                made[i, j] = self.node[f"{i}_{j}"](self._input(x, made, i, j))  # (N, base * 2**i, H/2**i, W/2**i)
        levels: tuple[Tensor, ...] = self.heads([made[0, j] for j in range(1, self.depth + 1)])
        return levels

    def _input(self, x: Tensor, made: dict[tuple[int, int], Tensor], i: int, j: int) -> Tensor:
        """What node X[i, j] reads."""
        if j == 0:
            return self.pool(made[i - 1, 0]) if i else x  # (N, base * 2**(i-1), H/2**i, W/2**i)
        row = [made[i, k] for k in range(j)]
        return torch.cat([*row, self.up[f"{i}_{j}"](made[i + 1, j - 1])], dim=1)  # (N, base * 2**i * (j+1), …)
