"""Attention U-Net (Oktay et al. 2018): a U-Net whose skips pass through an additive attention gate.

The layout of the 2-D port that is compared with (LeeJunHyun): the gating signal is upsampled first, so gate and skip
have one size and no trilinear resize is left; the hidden width of a gate is half that of its skip. At base 64, nearest,
256x256, one class: 34.87 M parameters, 66.4 G MACs. Deviations: BN and ReLU6 in place of ReLU (a bounded range
quantizes better), convolutions before BN without bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_unet.core.recipe import ModelSpec
from edge_unet.models.attention import AttentionGate
from edge_unet.models.blocks import init_head, init_weights, logit_clip, upsample_to
from edge_unet.models.unet import double_conv, encoder_levels, encoder_taps

PRESETS = tuple(
    (f"attention_unet-{base}", ModelSpec(name="attention_unet", base=base, depth=4)) for base in (8, 16, 64)
)


class AttentionUNet(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits in +-7.94. H, W: multiples of 2**depth."""

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        widths = [spec.base * 2**level for level in range(spec.depth + 1)]
        self.encoder = encoder_levels(in_channels, widths)
        self.pool = nn.MaxPool2d(2)
        self.up, self.gate, self.decoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for cin, cout in zip(reversed(widths[1:]), reversed(widths[:-1]), strict=True):
            self.up.append(upsample_to(spec.upsample, cin, cout))
            self.gate.append(AttentionGate(cout, cout, max(1, cout // 2)))
            self.decoder.append(double_conv(2 * cout, cout))
        self.head = nn.Conv2d(widths[0], classes, 1)
        self.clip = logit_clip()
        init_weights(self)
        init_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits."""
        *taps, x = encoder_taps(self.encoder, self.pool, x)
        for up, gate, conv, tap in zip(self.up, self.gate, self.decoder, reversed(taps), strict=True):
            coarse = up(x)  # (N, base * 2**n, H/2**n, W/2**n)
            x = conv(torch.cat((tap * gate(coarse, tap), coarse), dim=1))
        logits: Tensor = self.clip(self.head(x))  # (N, classes, H, W)
        return logits
