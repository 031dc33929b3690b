"""Multi-scale structural similarity (Wang, Simoncelli, Bovik 2003) of probabilities and truth, as UNet 3+ uses it."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from edge_unet.core.errors import UsageError
from edge_unet.training.losses.truth import Answer

WINDOW = 11
SIGMA = 1.5
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, fine to coarse (the paper's section 3.2)."""
_C1, _C2 = 0.01**2, 0.03**2


def ms_ssim(answer: Answer) -> Tensor:
    """1 - MS-SSIM, (N,). Where pixels are ignored, both sides are 0.

    Similarities are taken from -1..1 to 0..1 before their powers, which have no value below 0 (as UNet 3+ does).
    """
    probability, truth = answer.probability, answer.truth.layers  # (N, C, H, W)
    weights = scale_weights(*truth.shape[2:])
    product = torch.ones_like(truth[:, 0, 0, 0])  # (N,)
    for number, weight in enumerate(weights):
        if number:
            probability, truth = functional.avg_pool2d(probability, 2), functional.avg_pool2d(truth, 2)
        luminance, contrast = _similarity(probability, truth)
        last = number + 1 == len(weights)
        score = (luminance * contrast if last else contrast).mean((1, 2, 3))  # (N,)
        product = product * ((score + 1) / 2) ** weight
    return 1 - product


def scale_weights(height: int, width: int) -> tuple[float, ...]:
    """The exponents for an image: all five from 176 pixels up; on less, the scales at which the window still fits,
    their weights summing to 1 again. Raises UsageError below 11 pixels."""
    fitting = [weight for number, weight in enumerate(WEIGHTS) if min(height, width) >> number >= WINDOW]
    if not fitting:
        raise UsageError(f"loss.terms.ms_ssim needs at least {WINDOW} pixels a side, received {height}x{width}")
    return WEIGHTS if len(fitting) == len(WEIGHTS) else tuple(weight / sum(fitting) for weight in fitting)


def _similarity(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Luminance term and contrast-structure term, each (N, C, H - 10, W - 10)."""
    rows, columns = (_windows(length, a.device) for length in a.shape[2:])
    moments = torch.stack([a, b, a * a, b * b, a * b])  # (5, N, C, H, W)
    # Two banded matrix products: on a CPU nine times as fast as the convolutions they are.
    mean_a, mean_b, aa, bb, ab = (rows @ moments @ columns.T).unbind()  # (N, C, H - 10, W - 10) each
    variance_a, variance_b = (aa - mean_a**2).clamp_min(0), (bb - mean_b**2).clamp_min(0)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    contrast = (2 * (ab - mean_a * mean_b) + _C2) / (variance_a + variance_b + _C2)
    return luminance, contrast


@lru_cache(maxsize=32)
def _windows(length: int, device: torch.device) -> Tensor:
    """(length - 10, length): row i holds the Gaussian window over pixels i .. i + 10."""
    taps = torch.tensor([math.exp(-0.5 * ((k - WINDOW // 2) / SIGMA) ** 2) for k in range(WINDOW)])
    taps = taps / taps.sum()
    matrix = torch.zeros(length - WINDOW + 1, length)
    for offset in range(WINDOW):
        matrix.diagonal(offset).fill_(float(taps[offset]))
    return matrix.to(device)
