"""Layers that several peers share: convolution units, residual blocks, context pools; and settled statistics."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn(cin: int, cout: int, kernel: int, stride: int = 1, *, act: bool = True) -> nn.Sequential:
    """Convolution without bias, BatchNorm, and ReLU unless `act` is off. Padding keeps H and W at stride 1."""
    layers: list[nn.Module] = [nn.Conv2d(cin, cout, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(cout)]
    return nn.Sequential(*layers, nn.ReLU()) if act else nn.Sequential(*layers)


def pre_conv(cin: int, cout: int, kernel: int, groups: int = 1) -> nn.Sequential:
    """BatchNorm and ReLU in front of a convolution without bias (He et al. 2016)."""
    conv = nn.Conv2d(cin, cout, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(nn.BatchNorm2d(cin), nn.ReLU(), conv)


def resize_to(x: Tensor, like: Tensor) -> Tensor:
    """Half-pixel bilinear to the height and width of `like`."""
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


class Residual(nn.Module):
    """A body added to its input, or to a 1x1 convolution of it where the shape changes; ReLU after it unless off."""

    def __init__(self, body: nn.Module, cin: int, cout: int, stride: int, *, relu: bool) -> None:
        super().__init__()
        self.body = body
        self.shortcut = nn.Identity() if stride == 1 and cin == cout else conv_bn(cin, cout, 1, stride, act=False)
        self.act = nn.ReLU() if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, cin, H, W) -> (N, cout, H/stride, W/stride)."""
        y: Tensor = self.act(self.body(x) + self.shortcut(x))
        return y


def basic_block(cin: int, cout: int, stride: int = 1, *, relu: bool = True) -> Residual:
    """Two 3x3 convolutions (ResNet-18)."""
    body = nn.Sequential(conv_bn(cin, cout, 3, stride), conv_bn(cout, cout, 3, act=False))
    return Residual(body, cin, cout, stride, relu=relu)


def bottleneck(cin: int, width: int, stride: int = 1, *, relu: bool = True) -> Residual:
    """1x1, 3x3, 1x1 to twice the width."""
    body = nn.Sequential(
        conv_bn(cin, width, 1), conv_bn(width, width, 3, stride), conv_bn(width, 2 * width, 1, act=False)
    )
    return Residual(body, cin, 2 * width, stride, relu=relu)


def stage(cin: int, cout: int, count: int, stride: int = 1, *, relu: bool = True) -> nn.Sequential:
    """`count` basic blocks, the first with the stride. `relu` is of the last one only."""
    blocks = [
        basic_block(cin if n == 0 else cout, cout, stride if n == 0 else 1, relu=relu or n < count - 1)
        for n in range(count)
    ]
    return nn.Sequential(*blocks)


CONTEXT = ((5, 2), (9, 4), (17, 8))
"""Kernel and stride of the average pools of DAPPM and PAPPM; a global mean follows."""


class ContextBranches(nn.Module):
    """What DAPPM and PAPPM begin with: the input and its pooled versions, each through BN, ReLU and a 1x1."""

    def __init__(self, cin: int, width: int) -> None:
        super().__init__()
        pools: list[nn.Module] = [nn.AvgPool2d(kernel, stride, kernel // 2) for kernel, stride in CONTEXT]
        self.pools = nn.ModuleList([*pools, nn.AdaptiveAvgPool2d(1)])
        self.whole = pre_conv(cin, width, 1)
        self.scales = nn.ModuleList(pre_conv(cin, width, 1) for _ in self.pools)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, cin, H, W) -> five of (N, width, H, W), from the whole to the global mean."""
        pooled = [resize_to(conv(pool(x)), x) for pool, conv in zip(self.pools, self.scales, strict=True)]
        return [self.whole(x), *pooled]


class Trunk(nn.Module):
    """What DDRNet and PIDNet begin with: two convolutions of stride 2, a stage at 1/4 and one of stride 2."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, width, 3, 2), conv_bn(width, width, 3, 2))
        self.stage1 = stage(width, width, blocks, relu=False)
        self.stage2 = stage(width, 2 * width, blocks, 2, relu=False)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 2 * width, H/8, W/8)."""
        y: Tensor = self.act(self.stage2(self.act(self.stage1(self.stem(x)))))
        return y


def segmentation_head(cin: int, width: int, classes: int) -> nn.Sequential:
    """BN, ReLU, 3x3, BN, ReLU, 1x1: the head of DDRNet and PIDNet."""
    return nn.Sequential(pre_conv(cin, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, classes, 1))


def init_he(net: nn.Module) -> None:
    """He initialisation (fan out) for every convolution, zeros for biases."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def init_head(head: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """Small weights for the layer that makes the logits, so that a fresh network's are about 1 and not tens."""
    nn.init.normal_(head.weight, std=(1 / head.weight[0].numel()) ** 0.5)


def settle(net: nn.Module, frames: Sequence[Tensor]) -> nn.Module:
    """Eval mode with norms away from their start and statistics measured on `frames`: what INT8 ranges are taken from
    must look like a trained network's, and so must the work, without ReLUs that are all off."""
    generator = torch.Generator().manual_seed(7)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    net.train()
    with torch.no_grad():
        for norm in norms:
            norm.weight.mul_(torch.empty_like(norm.weight).uniform_(0.7, 1.3, generator=generator))
            norm.bias.add_(torch.empty_like(norm.bias).uniform_(-0.3, 0.6, generator=generator))
            norm.momentum = None  # a plain mean over the frames
        for batch in frames:
            net(batch)
    for norm in norms:
        norm.momentum = 0.1
    return net.eval()
