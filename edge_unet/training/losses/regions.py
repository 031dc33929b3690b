"""Terms that compare areas: (N,), per image the mean over its classes of 1 - overlap.

All are smoothed alike, so that an empty mask answered with an empty prediction costs nothing.
"""

from __future__ import annotations

from torch import Tensor

from edge_unet.training.losses.truth import Answer

SMOOTH = 1.0
"""Pixels added to both sides of every fraction (Milletari et al. 2016 add none): gradients stay finite."""


def dice(answer: Answer) -> Tensor:
    """1 - 2 shared / (predicted + true)."""
    probability, layers = answer.probability, answer.truth.layers
    shared = (probability * layers).sum((2, 3))  # (N, C)
    score = (2 * shared + SMOOTH) / (probability.sum((2, 3)) + layers.sum((2, 3)) + SMOOTH)
    return answer.truth.class_mean(1 - score)


def tversky(answer: Answer) -> Tensor:
    """1 - shared / (shared + alpha false positives + beta false negatives); both 0.5 is Dice (Salehi et al. 2017)."""
    spec, probability, layers = answer.spec, answer.probability, answer.truth.layers
    shared = (probability * layers).sum((2, 3))  # (N, C)
    extra, missed = probability.sum((2, 3)) - shared, layers.sum((2, 3)) - shared
    score = (shared + SMOOTH) / (shared + spec.tversky_alpha * extra + spec.tversky_beta * missed + SMOOTH)
    return answer.truth.class_mean(1 - score)


def iou(answer: Answer) -> Tensor:
    """1 - shared / united (Rahman & Wang 2016)."""
    probability, layers = answer.probability, answer.truth.layers
    shared = (probability * layers).sum((2, 3))  # (N, C)
    united = probability.sum((2, 3)) + layers.sum((2, 3)) - shared
    return answer.truth.class_mean(1 - (shared + SMOOTH) / (united + SMOOTH))
