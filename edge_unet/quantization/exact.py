"""Scales on which every engine computes the same number, so that single codes cannot flip.

A runtime with integer kernels sums int32 and multiplies once; one with float kernels, like the reference, sums
products of dequantized numbers. On general scales the two differ in the last bit of a float, one value in some ten
thousand falls on the other side of a rounding tie, and every layer multiplies such flips. Here activation scales are
powers of two and weight scales have 3 significant bits: all products and sums of a convolution fit float32's 24 bits
(18 of an accumulator, 3 of a weight scale), so does the factor onto the output's grid, ties are ties everywhere, and
they go to even. Scales stay within fp16, in which Core ML stores them, and so do biases.
"""

from __future__ import annotations

import torch
from torch import Tensor

SCALE_MIN = 2.0**-14
"""The least normal fp16 number."""
SCALE_MAX = 2.0**15
"""The greatest power of two in fp16."""
ACTIVATION_BITS = 1
"""Significant bits of an activation's scale: a power of two."""
WEIGHT_BITS = 3
"""Significant bits of a weight's scale."""
BIAS_MAX = 2047
"""fp16 holds integers of 11 bits."""
ACTIVATION_CLIP = 2.0**0.25
"""A power of two may lie below the calibrated scale by this factor: clipping a bit beats losing a bit."""
WEIGHT_CLIP = 1.001


def snap(scale: Tensor, bits: int) -> Tensor:
    """The nearest number of `bits` significant bits in [2**-14, 2**15], float32. NaN stays NaN."""
    mantissa, exponent = torch.frexp(scale.clamp(SCALE_MIN, SCALE_MAX))  # mantissa in [0.5, 1)
    return torch.ldexp((mantissa * 2**bits).round(), exponent - bits)


def cover(scale: Tensor, bits: int) -> Tensor:
    """The least such number that is not below `scale` by more than a tolerated clipping."""
    clip = ACTIVATION_CLIP if bits == ACTIVATION_BITS else WEIGHT_CLIP
    mantissa, exponent = torch.frexp((scale / clip).clamp(SCALE_MIN, SCALE_MAX))
    return torch.ldexp((mantissa * 2**bits).ceil(), exponent - bits).clamp(max=SCALE_MAX)


def snap_bias(bias: Tensor, step: Tensor) -> Tensor:
    """The nearest multiple of `step` (input scale * weight scale) that is an fp16 number. Both (channels,) float32.

    Large biases lie on a multiple of the step: 11 bits less those of the step are left for the number of steps.
    """
    digits = torch.frexp(step)[0] * 2**WEIGHT_BITS  # 4, 5, 6 or 7
    odd = torch.where(digits == 4, 1.0, torch.where(digits == 6, 3.0, digits))
    doublings = torch.log2(bias.abs() * odd / (BIAS_MAX * step)).ceil().clamp(min=0)  # of 0: -inf, clamped
    unit = torch.ldexp(step, doublings.to(torch.int32))
    return (bias / unit).round() * unit
