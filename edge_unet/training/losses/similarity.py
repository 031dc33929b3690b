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
    mean_a, aa, ab = _local_means(a, a * a, a * b)
    mean_b, bb = _local_means(b, b * b)  # apart, because nothing flows back through the truth
    variance_a, variance_b = (aa - mean_a**2).clamp_min(0), (bb - mean_b**2).clamp_min(0)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    contrast = (2 * (ab - mean_a * mean_b) + _C2) / (variance_a + variance_b + _C2)
    return luminance, contrast


def _local_means(*maps: Tensor) -> tuple[Tensor, ...]:
    """Each (N, C, H, W) -> (N, C, H - 10, W - 10), the mean under a Gaussian window wherever it fits."""
    stacked = torch.cat(maps, dim=1)  # (N, len(maps) * C, H, W)
    # A CPU computes depthwise convolutions four times as fast in this format.
    stacked = stacked.contiguous(memory_format=torch.channels_last)
    channels, taps = stacked.shape[1], _taps(stacked.device)
    for size in ((1, WINDOW), (WINDOW, 1)):
        stacked = functional.conv2d(stacked, taps.view(1, 1, *size).repeat(channels, 1, 1, 1), groups=channels)
    return stacked.chunk(len(maps), dim=1)


@lru_cache(maxsize=8)
def _taps(device: torch.device) -> Tensor:
    """(11,) Gaussian weights that sum to 1."""
    taps = torch.tensor([math.exp(-0.5 * ((k - WINDOW // 2) / SIGMA) ** 2) for k in range(WINDOW)])
    return (taps / taps.sum()).to(device)
