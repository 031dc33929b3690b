"""Terms that score every pixel by itself; each gives (N,), one mean per image."""

from __future__ import annotations

import torch
from torch import Tensor

from edge_unet.training.losses.truth import Answer

_LEAST = 1e-6
"""Under a fractional power, keeps the gradient of focal finite at a perfectly sure pixel."""


def ce(answer: Answer) -> Tensor:
    """Cross-entropy, smoothed and weighted by class as the recipe says."""
    return answer.truth.image_mean(answer.smoothed_entropy, answer.truth.pixel_weights)


def focal(answer: Answer) -> Tensor:
    """Cross-entropy times (1 - p) ** gamma, p the probability of the truth (Lin et al. 2017, equations 4 and 5)."""
    spec, truth = answer.spec, answer.truth
    wrong = (-torch.expm1(-answer.entropy)).clamp_min(_LEAST)  # (N, H, W)
    values = wrong**spec.focal_gamma * answer.entropy
    if spec.focal_alpha is not None:
        values = values * torch.where(truth.ids > 0, spec.focal_alpha, 1 - spec.focal_alpha)
    return truth.image_mean(values, truth.pixel_weights)


def border_ce(answer: Answer) -> Tensor:
    """Cross-entropy with the weight map of the U-Net paper (equation 2): class weight + border weight."""
    truth = answer.truth
    return truth.image_mean(answer.smoothed_entropy, truth.pixel_weights + truth.maps["border_ce"] * truth.known)
