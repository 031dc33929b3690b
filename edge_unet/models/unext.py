"""UNeXt (Valanarasu & Patel 2022, MICCAI): three convolution stages, two stages of tokenised shifted MLPs, skips added.

A stage of the encoder is conv, BN, ReLU, 2x2 max-pool; the paper's code pools before the ReLU, which gives the same
number, and this order lets integer kernels fuse the ReLU. A decoder stage is conv, BN, resize by 2, ReLU, as there. A
token block is LayerNorm, shift along H, linear, 3x3 depthwise, GELU, shift along W, linear, added to its input. The
default variant has 1.472 M parameters and 0.56 G MACs at 256x256, one class; "s" 0.254 M and 0.10 G. Linears are 1x1
convolutions, and a shift of five channel groups by -2 .. 2 pixels is a depthwise convolution with one-hot kernels: the
same numbers. LayerNorm is a float island. Deviations: ReLU6 in place of ReLU, convolutions before BN without bias.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models.blocks import conv_bn, fixed_conv, init_head, init_weights, logit_clip, resizing, upsample
from edge_unet.models.norm import ChannelNorm

CHANNELS = {"": (16, 32, 128, 160, 256), "s": (8, 16, 32, 64, 128)}
"""Per variant: the three convolution stages, then the two token stages, at strides 2, 4, 8, 16, 32."""
CONV_STAGES = 3
SHIFTS = (-2, -1, 0, 1, 2)
"""Pixels by which the channel groups move, in order."""
LINEAR_STD = 0.02

PRESETS = (
    ("unext", ModelSpec(name="unext", upsample="bilinear")),
    ("unext-s", ModelSpec(name="unext", variant="s", upsample="bilinear")),
)


def channel_shift(channels: int, along: Literal["height", "width"]) -> nn.Conv2d:
    """Moves the channels in five equal groups (the last may be smaller) by -2 .. 2 pixels; zeros come in."""
    size = -(-channels // len(SHIFTS))
    kernel = torch.zeros(channels, 1, len(SHIFTS))
    for channel in range(channels):
        kernel[channel, 0, len(SHIFTS) // 2 - SHIFTS[channel // size]] = 1
    return fixed_conv(kernel[:, :, :, None] if along == "height" else kernel[:, :, None, :], groups=channels)


class TokenBlock(nn.Module):
    """x + shifted MLP of its LayerNorm; hidden channels as many as the block's."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.down = channel_shift(channels, "height")
        self.first = nn.Conv2d(channels, channels, 1)
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.act = nn.GELU()
        self.across = channel_shift(channels, "width")
        self.second = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y = self.first(self.down(self.norm(x)))
        y = self.act(self.depthwise(y))
        y = self.second(self.across(y))
        joined: Tensor = x + y
        return joined


class UNeXt(nn.Module):
    """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits in +-7.94. H, W: multiples of 32."""

    def __init__(self, spec: ModelSpec, in_channels: int, classes: int) -> None:
        super().__init__()
        if spec.variant not in CHANNELS or spec.depth != len(SHIFTS):
            raise UsageError(
                f"unext has variants {', '.join(map(repr, CHANNELS))} at depth 5, received variant {spec.variant!r} at "
                f"depth {spec.depth}; change [model]"
            )
        widths = CHANNELS[spec.variant]
        self.pool = nn.MaxPool2d(2)
        self.encoder, self.embed, self.tokens = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for cin, cout in zip((in_channels, *widths[: CONV_STAGES - 1]), widths[:CONV_STAGES], strict=True):
            self.encoder.append(conv_bn(cin, cout, 3))
        for cin, cout in zip(widths[CONV_STAGES - 1 : -1], widths[CONV_STAGES:], strict=True):
            self.embed.append(nn.Sequential(nn.Conv2d(cin, cout, 3, 2, 1), ChannelNorm(cout)))
            self.tokens.append(nn.Sequential(TokenBlock(cout), ChannelNorm(cout)))
        mode = resizing(spec.upsample, "unext")
        self.decoder, self.after = nn.ModuleList(), nn.ModuleList()
        for place, (cin, cout) in enumerate(zip(reversed(widths), (*reversed(widths[:-1]), widths[0]), strict=True)):
            last = place == len(widths) - 1  # the paper's code has no BN there
            conv = nn.Conv2d(cin, cout, 3, padding=1) if last else conv_bn(cin, cout, 3, act=False)
            self.decoder.append(nn.Sequential(conv, upsample(mode), nn.ReLU6(inplace=False)))
            tokens = len(widths) - CONV_STAGES > place
            self.after.append(nn.Sequential(TokenBlock(cout), ChannelNorm(cout)) if tokens else nn.Identity())
        self.head = nn.Conv2d(widths[0], classes, 1)
        self.clip = logit_clip()
        init_weights(self)
        init_head(self.head)
        _init_tokens(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) normalised frame -> (N, classes, H, W) logits."""
        taps = []
        for stage in self.encoder:
            x = self.pool(stage(x))  # (N, width, H/2**n, W/2**n), n = 1 .. 3
            taps.append(x)
        for embed, tokens in zip(self.embed, self.tokens, strict=True):
            x = tokens(embed(x))  # (N, width, H/2**n, W/2**n), n = 4, 5
            taps.append(x)
        for decode, after, tap in zip(self.decoder[:-1], self.after[:-1], reversed(taps[:-1]), strict=True):
            x = after(decode(x) + tap)  # (N, width, H/2**n, W/2**n), n = 4 .. 1
        logits: Tensor = self.clip(self.head(self.decoder[-1](x)))  # (N, classes, H, W)
        return logits


def _init_tokens(net: nn.Module) -> None:
    """Linears start small and depthwise kernels count their own fan, as in the paper's code: no BN mends them here."""
    for block in net.modules():
        if isinstance(block, TokenBlock):
            nn.init.trunc_normal_(block.first.weight, std=LINEAR_STD)
            nn.init.trunc_normal_(block.second.weight, std=LINEAR_STD)
            nn.init.normal_(block.depthwise.weight, std=(2 / block.depthwise.weight[0].numel()) ** 0.5)
