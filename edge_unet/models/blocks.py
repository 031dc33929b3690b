"""Building blocks shared by the networks: conv+BN+ReLU6 units and the exact upsamplings.

Every block traces under torch.fx, so BN folds and fake-quant goes in by graph surgery; no block branches on data.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


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


LOGIT_LIMIT = 127 / 16
"""Logits are clipped to +-127/16, so that int8 codes with step 1/16 hold them exactly; the step is fp16-exact."""


def logit_clip() -> nn.Hardtanh:
    """The clip in front of the logits' quantizer. exp(-7.9) is 4e-4: the loss does not notice."""
    return nn.Hardtanh(-LOGIT_LIMIT, LOGIT_LIMIT)


def init_weights(net: nn.Module) -> None:
    """He initialisation (fan out) for convs, ones and zeros for BN, and a small normal for the last head."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
