"""Fake-quant with learned scales (LSQ, Esser et al. 2020, arXiv:1902.08153) on the grid that every target accepts.

A scale is `base * gain`, rounded to the few numbers on which all engines agree (quantization/exact.py). `base` is
what calibration found, `gain` is learned and starts at 1: an optimiser that normalises gradients (Adam) then moves
every scale by the same share, whether it is 0.05 or 0.0005.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from edge_unet.core.spec import QuantScheme
from edge_unet.graph.frozen import FrozenQuantizer
from edge_unet.quantization.exact import ACTIVATION_BITS, WEIGHT_BITS, cover, snap
from edge_unet.quantization.observers import Observer

INPUT_SCALE = 1 / 64
LOGIT_SCALE = 1 / 16
WEIGHT_LIMIT = 127


class _SnappedScale(torch.autograd.Function):
    """snap(base * gain). The backward is straight-through and gives `gain` the LSQ step as a share of the scale:
    under SGD d(scale)/scale is lr * factor * gradient / scale, equation 4 and section 2.2 of the paper."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, gain: Tensor, factor: float, bits: int) -> Tensor:
        ctx.save_for_backward(base)
        ctx.factor = factor
        return snap(base * gain, bits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None]:
        (base,) = ctx.saved_tensors
        return None, gradients[0] * ctx.factor / base, None, None


class _RoundToGrid(torch.autograd.Function):
    """clamp(round(x / scale), low, high) * scale for one scale, or one per index of `axis`.

    Few passes over memory, because this runs after every layer of a training step. torch's fused fake-quantize
    kernel is eight times slower than these four vectorised ones on a CPU (scalar loop), and multiplies by the
    reciprocal, which rounds other than ONNX's division.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, low: int, high: int, axis: int | None) -> Tensor:
        step = _along(scale, axis, x.dim())
        out = torch.div(x, step).round_().clamp_(low, high).mul_(step)
        ctx.save_for_backward(x, out, step)
        ctx.low, ctx.high, ctx.axis = low, high, axis
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        x, out, step = ctx.saved_tensors
        low, high = float(ctx.low), float(ctx.high)
        grad = gradients[0]
        # A value passes its gradient unless it saturates by more than half a step. On a CPU the bounds go to the
        # input's side, which saves a division; elsewhere reading the scale would stall the device.
        unit = step.item() if ctx.axis is None and x.device.type == "cpu" else 1.0
        value = x if unit != 1.0 else x / step
        passed = torch.ops.aten.hardtanh_backward(grad, value, (low - 0.5) * unit, (high + 0.5) * unit)
        if not ctx.needs_input_grad[1]:
            return passed, None, None, None, None
        # d out / d scale = q - (x / scale where x passes), summed; equation 3 of the paper.
        if ctx.axis is None:
            slope = _dot(grad, out) / step - _dot(passed, value) / unit
        else:
            rest = [d for d in range(x.dim()) if d != ctx.axis]
            slope = (grad * out).sum(rest) / step.flatten() - (passed * value).sum(rest)
        return passed, slope, None, None, None


def _along(scale: Tensor, axis: int | None, dims: int) -> Tensor:
    """A scale shaped to divide a tensor of `dims` dimensions."""
    return scale if axis is None else scale.view([-1 if d == axis else 1 for d in range(dims)])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum of products of two tensors of one shape, without a temporary where their memory order agrees."""
    if a.stride() != b.stride() or not (a.is_contiguous() or a.is_contiguous(memory_format=torch.channels_last)):
        return (a * b).sum()
    order = sorted(range(a.dim()), key=lambda d: a.stride()[d], reverse=True)
    return torch.dot(a.permute(order).reshape(-1), b.permute(order).reshape(-1))


_snapped_scale: Callable[[Tensor, Tensor, float, int], Tensor] = _SnappedScale.apply
_round_to_grid: Callable[[Tensor, Tensor, int, int, int | None], Tensor] = _RoundToGrid.apply


class FakeQuant(nn.Module):
    """Rounds a tensor to an integer grid in forward and passes gradients through, to the tensor and to the scale.

    `fixed_scale` makes a grid that is neither calibrated nor learned. While `observer` is set the module only
    watches, and while `enabled` is off it does nothing: both return the input.
    """

    base: Tensor
    gain: Tensor
    zero_point: Tensor

    def __init__(
        self,
        code_min: int,
        code_max: int,
        *,
        axis: int | None = None,
        channels: int = 1,
        fixed_scale: float | None = None,
        zero_point: int = 0,
    ) -> None:
        super().__init__()
        self.code_min, self.code_max, self.axis = code_min, code_max, axis
        self.bits = ACTIVATION_BITS if axis is None else WEIGHT_BITS
        self.fixed = fixed_scale is not None
        self.enabled = True
        self.observer: Observer | None = None
        shape = () if axis is None else (channels,)
        # NaN until calibrated: a forward with a scale that was never set is loud.
        self.register_buffer("base", torch.full(shape, math.nan if fixed_scale is None else fixed_scale))
        gain = torch.ones(shape)
        if self.fixed:
            self.register_buffer("gain", gain)
        else:
            self.gain = nn.Parameter(gain)
        dtype = torch.int8 if code_min < 0 else torch.uint8
        self.register_buffer("zero_point", torch.tensor(zero_point, dtype=dtype))

    @property
    def active(self) -> bool:
        """Whether forward rounds: switched on and not only watching."""
        return self.enabled and self.observer is None

    @property
    def symmetric(self) -> bool:
        """Whether the codes are signed with zero point 0."""
        return self.code_min < 0

    @property
    def scale(self) -> Tensor:
        """The scale that forward uses: of `bits` significant bits, () or (channels,) float32, without gradient."""
        return snap((self.base * self.gain).detach(), self.bits)

    @torch.no_grad()
    def set_range(self, low: Tensor, high: Tensor) -> None:
        """Lay the grid over the real range [low, high], () or (channels,); zero is always on it. Resets `gain`."""
        low, high = low.clamp(max=0), high.clamp(min=0)
        if self.symmetric:
            self.base.copy_(cover(torch.maximum(-low, high) / self.code_max, self.bits))
        else:
            self.base.copy_(cover((high - low) / (self.code_max - self.code_min), self.bits))
            self.zero_point.copy_((self.code_min - low / self.base).round().clamp(self.code_min, self.code_max))
        self.gain.fill_(1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Real tensor of any shape -> grid values, same shape, dtype and memory format. Rounding is in float32."""
        if self.observer is not None:
            self.observer.update(x.detach())
            return x
        if not self.enabled:
            return x
        # numel() of one sample: the loss is a mean over the batch, so the gradient does not grow with it.
        samples = x.shape[0] if x.dim() > 1 else 1
        values = x.numel() // (samples if self.axis is None else self.base.numel())
        factor = 1 / math.sqrt(max(1, values) * self.code_max)
        scale: Tensor = self.base if self.fixed else _snapped_scale(self.base, self.gain, factor, self.bits)
        zero = 0 if self.symmetric else int(self.zero_point)
        y: Tensor = _round_to_grid(x.float(), scale, self.code_min - zero, self.code_max - zero, self.axis)
        return y.to(x.dtype)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """The integers of `x` as int8 or uint8, same shape."""
        codes = torch.round(x / _along(self.scale, self.axis, x.dim())) + self.zero_point
        return codes.clamp(self.code_min, self.code_max).to(self.zero_point.dtype)

    @torch.no_grad()
    def on_grid(self, codes: Tensor, scale: Tensor) -> Tensor:
        """What integer `codes` mean on a grid of this kind whose scale, before it is snapped, is `scale`."""
        real: Tensor = (codes.float() - int(self.zero_point)) * _along(snap(scale, self.bits), self.axis, codes.dim())
        return real

    def frozen(self) -> nn.Module:
        """The constant twin for export. Raises ValueError while the scale is not set."""
        if not bool(torch.isfinite(self.scale).all()):
            raise ValueError("its scale was never set (NaN)")
        return FrozenQuantizer(self.scale.clone(), self.zero_point.clone())

    def extra_repr(self) -> str:
        """What print(module) shows."""
        kind = "fixed" if self.fixed else "learned"
        return f"codes=[{self.code_min}, {self.code_max}], axis={self.axis}, {kind} scale"


def activation_quant(scheme: QuantScheme, fixed_scale: float | None = None) -> FakeQuant:
    """A per-tensor activation quantizer. A fixed one keeps the portable grid: u8 with zero point 128 is s8 with 0."""
    if scheme is QuantScheme.PORTABLE:
        return FakeQuant(-128, 127, fixed_scale=fixed_scale)
    return FakeQuant(0, 255, fixed_scale=fixed_scale, zero_point=128 if fixed_scale is not None else 0)


def weight_quant(weight: Tensor, axis: int) -> FakeQuant:
    """A per-channel weight quantizer in [-127, 127], laid over the weights as they are."""
    quant = FakeQuant(-WEIGHT_LIMIT, WEIGHT_LIMIT, axis=axis, channels=weight.shape[axis])
    limit = weight.detach().abs().amax([d for d in range(weight.dim()) if d != axis])
    quant.set_range(-limit, limit)
    return quant


def learned_scales(net: nn.Module) -> list[nn.Parameter]:
    """The `gain` of every learned scale, for an optimiser group of its own (never decay them: they rest at 1)."""
    return [m.gain for m in net.modules() if isinstance(m, FakeQuant) and isinstance(m.gain, nn.Parameter)]
