"""Visual state-space blocks (VMamba, Liu et al. 2024; VM-UNet): x + SS2D(LayerNorm(x)), a scan over a map in four
directions between INT8 projections.

Every linear layer is a 1x1 convolution in INT8, those of the four directions one convolution each on the map as it is
(they see one position at a time, so the order does not matter). Float islands: the LayerNorms, SiLU, the scan, and the
norm and gate behind it. dt is quantized before its bias and softplus: biases start between -7 and -2, and a grid that
has to hold them too would be coarser and round them besides; they are added in float.

Parameters are those of the official code up to order: directions are row-major, column-major, and both reversed;
`dt` and `states` are the two parts of its x_proj, so that each has a grid of its own.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from edge_unet.models.islands import FloatIsland
from edge_unet.models.norm import ChannelNorm
from edge_unet.models.scan import selective_scan, state_space_dual

DIRECTIONS = 4
EXPAND = 2
STATES = 16
NORM_EPS = 1e-6
STEPS = (1e-3, 0.1)
"""Step sizes dt at the start: log-uniform in this range (Gu and Dao 2023)."""
HEAD_CHANNELS = 32
"""Channels per head of the dual form, at most."""
RECOMPUTE_ABOVE = 2**22
"""States of one frame above which training computes the scan again in the backward pass instead of keeping it."""

Form = Literal["selective", "ssd"]
SCAN_REASON = "the decay exp(dt * A) is a product over the whole sequence and dt spans decades: int8 holds neither"


class Silu(FloatIsland):
    """x * sigmoid(x)."""

    reason: ClassVar[str] = "its factors would need a grid each; between two int8 tensors float rounds once"

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * torch.sigmoid(x)


class SelectiveScan2d(FloatIsland):
    """Four selective scans over a map (VMamba's SS2D), added. `rate` is log(-A), (4, S, D)."""

    reason: ClassVar[str] = SCAN_REASON

    def __init__(self, channels: int) -> None:
        super().__init__()
        rates = torch.arange(1.0, STATES + 1).log()
        self.rate = nn.Parameter(rates.view(1, STATES, 1).repeat(DIRECTIONS, 1, channels))
        self.dt_bias = nn.Parameter(_start_of_steps(DIRECTIONS, channels))
        self.skip = nn.Parameter(torch.ones(DIRECTIONS, channels))

    def forward(self, x: Tensor, dt: Tensor, states: Tensor) -> Tensor:
        """(N, D, H, W), (N, 4 D, H, W), (N, 8 S, H, W): B then C of each direction -> (N, H, W, D), float."""
        height, width = x.shape[2:]
        if self.training and x.requires_grad and self.rate.numel() * height * width > RECOMPUTE_ABOVE:
            y: Tensor = checkpoint(self._scan, x, dt, states, use_reentrant=False)
        else:
            y = self._scan(x, dt, states)
        return _joined(y, height, width)  # (N, H, W, D)

    def _scan(self, x: Tensor, dt: Tensor, states: Tensor) -> Tensor:
        """(L, N, 4, D)."""
        u = sequences(x, shared=True)  # (L, N, 4, D)
        steps = functional.softplus(sequences(dt) + self.dt_bias)  # (L, N, 4, D)
        b, c = halves(sequences(states))  # (L, N, 4, S)
        return selective_scan(u, steps, -self.rate.exp(), b, c) + u * self.skip


class DualScan2d(FloatIsland):
    """The same with one decay per head and direction (Mamba-2). `rate` is log(-A), (4, J)."""

    reason: ClassVar[str] = SCAN_REASON

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = dual_heads(channels)
        self.rate = nn.Parameter(torch.empty(DIRECTIONS, self.heads).uniform_(1, 16).log())
        self.dt_bias = nn.Parameter(_start_of_steps(DIRECTIONS, self.heads))
        self.skip = nn.Parameter(torch.ones(DIRECTIONS, self.heads))

    def forward(self, x: Tensor, dt: Tensor, states: Tensor) -> Tensor:
        """(N, D, H, W), (N, 4 J, H, W), (N, 8 S, H, W): B then C of each direction -> (N, H, W, D), float."""
        n, channels, height, width = x.shape
        length, scans = height * width, n * DIRECTIONS
        u = sequences(x, shared=True).reshape(length, scans, self.heads, -1).permute(1, 2, 0, 3)  # (4 N, J, L, P)
        steps = functional.softplus(sequences(dt) + self.dt_bias)  # (L, N, 4, J)
        steps = steps.reshape(length, scans, self.heads).permute(1, 2, 0)  # (4 N, J, L)
        both = sequences(states).reshape(length, scans, -1).permute(1, 0, 2)  # (4 N, L, 2 S)
        rate, skip = (v.repeat(n, 1).unsqueeze(-1) for v in (-self.rate.exp(), self.skip))  # (4 N, J, 1)
        b, c = halves(both)  # (4 N, L, S)
        y = state_space_dual(u, steps, rate, b, c) + u * skip.unsqueeze(-1)
        return _joined(y.permute(2, 0, 1, 3).reshape(length, n, DIRECTIONS, channels), height, width)


class NormGate(FloatIsland):
    """LayerNorm of what the scan gives, times SiLU of the gate."""

    reason: ClassVar[str] = "reads the scan's float result; variance over channels needs more than 8 bits"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """(N, H, W, D), (N, D, H, W) -> (N, D, H, W)."""
        normed = functional.layer_norm(y, self.weight.shape, self.weight, self.bias)
        return normed.permute(0, 3, 1, 2) * (z * torch.sigmoid(z))  # (N, D, H, W)


class Ss2d(nn.Module):
    """The mixer of a block: project to 2 x 2C, depthwise 3x3, scan, gate, project back. Gu and Dao's ranks and sizes:
    D = 2C, S = 16, rank of dt = C / 16."""

    def __init__(self, channels: int, form: Form = "selective") -> None:
        super().__init__()
        inner, rank = EXPAND * channels, math.ceil(channels / 16)
        self.enter = nn.Conv2d(channels, 2 * inner, 1, bias=False)
        self.local = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.act = Silu()
        self.states = nn.Conv2d(inner, DIRECTIONS * 2 * STATES, 1, bias=False)
        if form == "selective":
            self.dt: nn.Module = nn.Sequential(
                nn.Conv2d(inner, DIRECTIONS * rank, 1, bias=False),
                nn.Conv2d(DIRECTIONS * rank, DIRECTIONS * inner, 1, groups=DIRECTIONS, bias=False),
            )
        else:
            self.dt = nn.Conv2d(inner, DIRECTIONS * dual_heads(inner), 1, bias=False)
        self.scan: nn.Module = SelectiveScan2d(inner) if form == "selective" else DualScan2d(inner)
        self.gate = NormGate(inner)
        self.leave = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        x, z = torch.chunk(self.enter(x), 2, dim=1)  # (N, D, H, W)
        x = self.act(self.local(x))
        y = self.scan(x, self.dt(x), self.states(x))  # (N, H, W, D)
        mixed: Tensor = self.leave(self.gate(y, z))  # (N, C, H, W)
        return mixed


class VssBlock(nn.Module):
    """x + SS2D(LayerNorm(x)). Deviation: no stochastic depth."""

    def __init__(self, channels: int, form: Form = "selective") -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, NORM_EPS)
        self.mix = Ss2d(channels, form)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y: Tensor = x + self.mix(self.norm(x))
        return y


def dual_heads(channels: int) -> int:
    """Heads of the dual form: the fewest with at most HEAD_CHANNELS channels each."""
    return next(j for j in range(math.ceil(channels / HEAD_CHANNELS), channels + 1) if channels % j == 0)


def sequences(x: Tensor, *, shared: bool = False) -> Tensor:
    """A map per direction, (N, 4 C, H, W), or one for all, (N, C, H, W), as sequences (L, N, 4, C): row by row, column
    by column, and both from the end."""
    if shared:
        rows, columns = x.flatten(2).unsqueeze(1), x.transpose(2, 3).flatten(2).unsqueeze(1)  # (N, 1, C, L)
        both = torch.cat((rows, columns), dim=1).permute(3, 0, 1, 2)  # (L, N, 2, C)
        return torch.cat((both, both.flip(0)), dim=2)
    n, channels, height, width = x.shape[0], x.shape[1] // DIRECTIONS, x.shape[2], x.shape[3]
    made = []
    for direction in range(DIRECTIONS):
        one = x.narrow(1, direction * channels, channels)  # (N, C, H, W)
        upright = one if direction % 2 == 0 else one.transpose(2, 3)
        sequence = upright.reshape(n, 1, channels, height * width).permute(3, 0, 1, 2)  # (L, N, 1, C)
        made.append(sequence if direction < 2 else sequence.flip(0))
    return torch.cat(made, dim=2)


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    """Both halves of the last axis. Slices, not a split: a node with two results bears no name of its island."""
    length = x.shape[-1] // 2
    return x.narrow(-1, 0, length), x.narrow(-1, length, length)


def _joined(y: Tensor, height: int, width: int) -> Tensor:
    """The sum of the four directions: (L, N, 4, D) -> (N, H, W, D)."""
    n, channels = y.shape[1], y.shape[3]
    both = y.narrow(2, 0, 2) + y.narrow(2, 2, 2).flip(0)  # (L, N, 2, D)
    rows, columns = both.narrow(2, 0, 1), both.narrow(2, 1, 1)  # (L, N, 1, D)
    upright = columns.reshape(width, height, n, channels).transpose(0, 1)  # (H, W, N, D)
    return (rows.reshape(height, width, n, channels) + upright).permute(2, 0, 1, 3)  # (N, H, W, D)


def _start_of_steps(*shape: int) -> Tensor:
    """Biases whose softplus is log-uniform in STEPS."""
    steps = torch.empty(*shape).uniform_(math.log(STEPS[0]), math.log(STEPS[1])).exp()
    return steps + torch.log(-torch.expm1(-steps))


def start_projections(net: nn.Module) -> None:
    """Projections of the blocks start with unit gain, 1 / sqrt(fan-in). Call it after init_weights."""
    for module in net.modules():
        if isinstance(module, Ss2d):
            for conv in (m for m in module.modules() if isinstance(m, nn.Conv2d)):
                fan_in = conv.weight[0].numel()
                nn.init.normal_(conv.weight, std=fan_in**-0.5)
