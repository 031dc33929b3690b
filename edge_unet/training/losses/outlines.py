"""Terms that look at outlines, through maps made of the truth alone (losses/maps.py); each gives (N,)."""

from __future__ import annotations

from torch import Tensor

from edge_unet.training.losses.regions import SMOOTH
from edge_unet.training.losses.truth import Answer


def boundary(answer: Answer) -> Tensor:
    """Signed distance to the true outline times (probability - truth), mean over pixels (Kervadec et al. 2019,
    equation 5): every wrong pixel pays its distance, in heights of the image. The truth's share does not depend on
    the network; it makes a perfect answer cost 0."""
    truth = answer.truth
    paid = (truth.maps["boundary"] * (answer.probability - truth.layers)).sum((2, 3))  # (N, C)
    return truth.class_mean(paid / truth.known.sum((1, 2)).clamp_min(1)[:, None])


def structure(answer: Answer) -> Tensor:
    """Weighted cross-entropy + (1 - weighted IoU), of PraNet (Fan et al. 2020), section 2.4.

    Both are weighted per pixel as the paper means it. The code that came with it passes `reduce='none'`, which torch
    takes for "mean": there the cross-entropy is a plain one.
    """
    truth = answer.truth
    weights = truth.maps["structure"] * truth.known  # (N, H, W)
    entropy = (answer.smoothed_entropy * weights).sum((1, 2)) / weights.sum((1, 2)).clamp_min(1)  # (N,)
    heavy = weights[:, None]
    shared = (answer.probability * truth.layers * heavy).sum((2, 3))  # (N, C)
    both = ((answer.probability + truth.layers) * heavy).sum((2, 3))
    return entropy + truth.class_mean(1 - (shared + SMOOTH) / (both - shared + SMOOTH))
