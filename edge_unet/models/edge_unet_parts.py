"""What edge_unet is made of: stems, residual blocks, decoder joins, heads whose depth becomes space."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edge_unet.models.blocks import BranchedConv, conv_bn, fixed_conv, logit_clip, upsample
from edge_unet.models.edge_unet_plan import Block, HeadKind, SkipKind, StemKind


def conv3(cin: int, cout: int, *, stride: int = 1, act: bool = True, branches: bool = False) -> nn.Module:
    """A 3x3 unit; with `branches` a 1x1 learns beside it and is folded into it."""
    return BranchedConv(cin, cout, stride, act) if branches else conv_bn(cin, cout, 3, stride, act=act)


class Residual(nn.Module):
    """x + body(x), ReLU6: two 3x3 convolutions, or a depthwise 5x5 and a 1x1."""

    def __init__(self, channels: int, kind: Block, branches: bool = False) -> None:
        super().__init__()
        if kind == "dense":
            self.body = nn.Sequential(
                conv3(channels, channels, branches=branches), conv3(channels, channels, act=False, branches=branches)
            )
        else:
            self.body = nn.Sequential(
                conv_bn(channels, channels, 5, groups=channels), conv_bn(channels, channels, 1, act=False)
            )
        self.act = nn.ReLU6(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y: Tensor = self.act(x + self.body(x))
        return y


class DepthToSpace(nn.Module):
    """(N, C * r * r, H, W) -> (N, C, H * r, W * r), channel order of nn.PixelShuffle.

    Written as reshapes and one transpose of rank 5, which every runtime has and no runtime gets wrong.
    """

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C * r * r, H, W) -> (N, C, H * r, W * r)."""
        r = self.factor
        batch, deep, height, width = x.shape
        channels = deep // (r * r)
        x = x.reshape(batch * channels, r, r, height, width)  # (N * C, r, r, H, W)
        x = x.permute(0, 3, 1, 4, 2)  # (N * C, H, r, W, r)
        return x.reshape(batch, channels, height * r, width * r)  # (N, C, H * r, W * r)


class SpaceToDepth(nn.Module):
    """(N, C, H, W) -> (N, C * r * r, H / r, W / r), channel order of nn.PixelUnshuffle; the other way round."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C * r * r, H / r, W / r)."""
        r = self.factor
        batch, channels, height, width = x.shape
        x = x.reshape(batch * channels, height // r, r, width // r, r)  # (N * C, H / r, r, W / r, r)
        x = x.permute(0, 2, 4, 1, 3)  # (N * C, r, r, H / r, W / r)
        return x.reshape(batch, channels * r * r, height // r, width // r)  # (N, C * r * r, H / r, W / r)


def patches(cin: int, cout: int, size: int) -> nn.Sequential:
    """A convolution whose kernel is its stride, BN, ReLU6: no pixel is read twice."""
    return nn.Sequential(
        nn.Conv2d(cin, cout, size, size, bias=False), nn.BatchNorm2d(cout), nn.ReLU6(inplace=False)
    )  # (N, cout, H / size, W / size)


def stem(cin: int, cout: int, kind: StemKind) -> nn.Module:
    """(N, cin, H, W) -> (N, cout, H / 4, W / 4): one 4x4 of stride 4; two 3x3 of stride 2; or a 3x3 of stride 2 whose
    space is moved to depth and mixed by a 1x1."""
    if kind == "patch":
        return patches(cin, cout, 4)
    narrow = max(8, cout // 4)
    first = conv_bn(cin, narrow, 3, stride=2)  # (N, cout / 4, H / 2, W / 2)
    if kind == "overlap":
        return nn.Sequential(first, conv_bn(narrow, cout, 3, stride=2))
    return nn.Sequential(first, SpaceToDepth(2), conv_bn(narrow * 4, cout, 1))


class Join(nn.Module):
    """One decoder level: the coarse map narrowed and doubled, the skip added (or put beside it), convolved."""

    def __init__(
        self,
        coarse: int,
        skip: int,
        channels: int,
        convs: int,
        kind: Block,
        joined: SkipKind = "add",
        branches: bool = False,
    ) -> None:
        super().__init__()
        self.narrow = conv_bn(coarse, channels, 1)
        self.up = upsample("nearest")
        self.concat = joined == "concat"
        wide = channels + skip if self.concat else channels
        self.fit = nn.Identity() if self.concat or skip == channels else conv_bn(skip, channels, 1, act=False)
        self.act = nn.Identity() if self.concat else nn.ReLU6(inplace=False)
        if kind == "large":
            self.convs = nn.Sequential(conv_bn(wide, wide, 5, groups=wide), conv_bn(wide, channels, 1))
        else:
            cins = [wide, *[channels] * (convs - 1)]
            self.convs = nn.Sequential(*(conv3(cin, channels, branches=branches) for cin in cins))

    def forward(self, coarse: Tensor, skip: Tensor) -> Tensor:
        """(N, coarse, H, W), (N, skip, 2H, 2W) -> (N, channels, 2H, 2W)."""
        x = self.up(self.narrow(coarse))  # (N, channels, 2H, 2W)
        if self.concat:
            both: Tensor = self.convs(torch.cat([x, skip], dim=1))  # (N, channels + skip, 2H, 2W) -> channels
            return both
        y: Tensor = self.convs(self.act(x + self.fit(skip)))
        return y


WIDEST_HEAD = 1024
"""Channels of a head's 1x1 convolution: what one class needs at 1/32. Eleven classes would need 11264 there, two
million parameters for the coarsest level alone."""


def shuffled_by(stride: int, classes: int) -> int:
    """How many of a head's `stride` input pixels, a power of two, it tells apart per axis within WIDEST_HEAD."""
    while classes * stride**2 > WIDEST_HEAD and stride > 1:
        stride //= 2
    return stride


def to_full_size(stride: int, factor: int) -> nn.Module:
    """(N, C * factor**2, H / stride, W / stride) -> (N, C, H, W): depth to space, then each pixel repeated."""
    shuffle = DepthToSpace(factor)
    return shuffle if factor == stride else nn.Sequential(shuffle, upsample("nearest", stride // factor))


class Heads(nn.Module):
    """One full-size head per decoder output, and the mean of all.

    shuffle: a 1x1 convolution to classes * s * s channels, its depth moved to space; where that would be more than
    WIDEST_HEAD, to a fraction of the size, repeated. bilinear: a 1x1 convolution to the classes, resized. `strides`:
    input pixels per pixel of each feature map, L1 (coarsest) first.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], classes: int, kind: HeadKind = "shuffle"
    ) -> None:
        super().__init__()
        factors = [shuffled_by(s, classes) if kind == "shuffle" else 1 for s in strides]
        self.convs = nn.ModuleList(nn.Conv2d(c, classes * f * f, 1) for c, f in zip(channels, factors, strict=True))
        self.clip = logit_clip()
        self.shuffle = nn.ModuleList(
            to_full_size(s, f) if kind == "shuffle" else upsample("bilinear", s)
            for s, f in zip(strides, factors, strict=True)
        )
        count = len(channels)
        self.mean = fixed_conv((torch.eye(classes) / count).repeat(1, count)[:, :, None, None])

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """[(N, channels[i], H / strides[i], W / strides[i])] -> (L1, …, Ln, mean), each (N, classes, H, W)."""
        levels = [
            shuffle(self.clip(conv(x)))  # (N, classes, H, W)
            for x, conv, shuffle in zip(features, self.convs, self.shuffle, strict=True)
        ]
        return (*levels, self.mean(torch.cat(levels, dim=1)))
