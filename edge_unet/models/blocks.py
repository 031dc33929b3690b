"""Building blocks shared by the networks: conv+BN+ReLU6 units, exact resizing, and the heads.

Every block traces under torch.fx, so BN folds and fake-quant goes in by graph surgery; no block branches on data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from edge_unet.core.errors import UsageError


def round_to_8(channels: float) -> int:
    """Channel count rounded to a multiple of 8, at least 8, never below 90 % of the wish (MobileNetV2, appendix)."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def conv_bn(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> nn.Sequential:
    """Convolution without bias, BatchNorm, and ReLU6 unless `act` is off. Padding keeps H and W at stride 1."""
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
    ]
    if act:
        layers.append(nn.ReLU6(inplace=False))
    return nn.Sequential(*layers)


class BranchedConv(nn.Module):
    """A 3x3 and a 1x1 convolution side by side, each with its BN, summed, ReLU6 unless `act` is off: one 3x3 once BN is
    folded (RepVGG, Ding et al. 2021). The identity branch is the residual sum's own affair."""

    def __init__(self, cin: int, cout: int, stride: int = 1, act: bool = True) -> None:
        super().__init__()
        self.wide = conv_bn(cin, cout, 3, stride, act=False)
        self.narrow = conv_bn(cin, cout, 1, stride, act=False)
        self.act = nn.ReLU6(inplace=False) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H/stride, W/stride)."""
        y: Tensor = self.act(self.wide(x) + self.narrow(x))
        return y


class InvertedResidual(nn.Module):
    """1x1 expand, 3x3 depthwise, 1x1 linear project; added to the input where shapes allow (MobileNetV2 §3.3)."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = cin * expand
        layers: list[nn.Module] = [] if expand == 1 else [conv_bn(cin, hidden, 1)]
        layers += [conv_bn(hidden, hidden, 3, stride, groups=hidden), conv_bn(hidden, cout, 1, act=False)]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H/stride, W/stride)."""
        y: Tensor = self.body(x)  # (N, cout, H/stride, W/stride)
        return x + y if self.residual else y


def upsample(mode: Literal["nearest", "bilinear"], factor: int = 2) -> nn.Upsample:
    """Upsampling by an integer factor: nearest, or half-pixel bilinear (align_corners differs between runtimes)."""
    if mode == "nearest":
        return nn.Upsample(scale_factor=factor, mode="nearest")
    return nn.Upsample(scale_factor=factor, mode="bilinear", align_corners=False)


def upsample_to(mode: Literal["nearest", "bilinear", "deconv"], cin: int, cout: int) -> nn.Module:
    """x2 upsampling from `cin` to `cout` channels: deconv is the 2x2 transposed convolution of stride 2 (Ronneberger et
    al. 2015), the others resize and apply a 3x3 conv (Odena et al. 2016: no checkerboard)."""
    if mode == "deconv":
        return nn.ConvTranspose2d(cin, cout, 2, 2)
    return nn.Sequential(upsample(mode), conv_bn(cin, cout, 3))


def resizing(mode: Literal["nearest", "bilinear", "deconv"], network: str) -> Literal["nearest", "bilinear"]:
    """The mode, for networks that only resize. Raises UsageError for deconv."""
    if mode == "deconv":
        raise UsageError(f"{network} has no transposed convolution; set model.upsample to nearest or bilinear")
    return mode


def fixed_conv(weight: Tensor, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution with constant weights (cout, cin / groups, kH, kW), no bias, padded to keep H and W at stride 1
    where the kernel is odd. As a convolution, an average or a shift rounds alike in every integer kernel; pooling
    ops do not."""
    cout, cin, height, width = weight.shape
    padding = (height // 2 if height % 2 else 0, width // 2 if width % 2 else 0)
    conv = nn.Conv2d(cin * groups, cout, (height, width), stride, padding, groups=groups, bias=False)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    return conv


def average_pool(channels: int, factor: int) -> nn.Conv2d:
    """Mean over factor x factor pixels with that stride, as a depthwise convolution."""
    return fixed_conv(torch.full((channels, 1, factor, factor), 1 / factor**2), stride=factor, groups=channels)


LOGIT_LIMIT = 127 / 16
"""Logits are clipped to +-127/16, so that int8 codes with step 1/16 hold them exactly; the step is fp16-exact."""


def logit_clip() -> nn.Hardtanh:
    """The clip in front of the logits' quantizer. exp(-7.9) is 4e-4: the loss does not notice."""
    return nn.Hardtanh(-LOGIT_LIMIT, LOGIT_LIMIT)


class Heads(nn.Module):
    """Deep supervision: one convolution per decoder output, clipped and resized to full size, and their mean.

    `channels` and `factors` go from L1, the cheapest head, to Ln; factor 1 is full size. The mean is that of logits:
    a mean of probabilities would need a sigmoid per head in the INT8 graph (docs/decisions/0010).
    """

    def __init__(self, channels: Sequence[int], factors: Sequence[int], classes: int, kernel: int = 1) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, classes, kernel, padding=kernel // 2) for c in channels)
        self.clip = logit_clip()
        self.resize = nn.ModuleList(nn.Identity() if f == 1 else upsample("bilinear", f) for f in factors)
        count = len(channels)
        self.mean = fixed_conv((torch.eye(classes) / count).repeat(1, count)[:, :, None, None])

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """[(N, channels[i], H / factors[i], W / factors[i])] -> (L1, …, Ln, mean), each (N, classes, H, W)."""
        levels = [
            resize(self.clip(conv(x)))  # (N, classes, H, W)
            for x, conv, resize in zip(features, self.convs, self.resize, strict=True)
        ]
        return (*levels, self.mean(torch.cat(levels, dim=1)))


def init_weights(net: nn.Module) -> None:
    """He initialisation (fan out) for trainable convs, zeros for their biases."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.weight.requires_grad:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_head(head: nn.Module) -> None:
    """Unit gain (fan in) for the trainable convs of a head: first logits are about 1, inside the clip. He's for one
    output channel puts them beyond it, where no gradient passes. Call it after init_weights."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d) and module.weight.requires_grad:
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="linear")
