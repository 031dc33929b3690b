"""How sure a network is, pixel by pixel: the entropy of its probabilities, and how far several heads disagree.

Entropy (bits) is high where one head hesitates. Several heads of one network (the levels of a UNet++ with deep
supervision, one bundle each) are an ensemble that costs no further training; of their mean's entropy, the part that
is not each head's own hesitation is their mutual information (Depeweg et al., "Decomposition of Uncertainty",
ICML 2018): high where the heads are sure of different answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import DataError


@dataclass(frozen=True, slots=True)
class Disagreement:
    """What several heads say together, each (h, w) but `mean`. Entropies and information are in bits."""

    mean: NDArray[np.float32]  # (classes, h, w) mean probabilities
    entropy: NDArray[np.float32]  # of the mean: all there is
    expected_entropy: NDArray[np.float32]  # mean over the heads: what each hesitates about by itself
    mutual_information: NDArray[np.float32]  # the rest: what they disagree about
    variance: NDArray[np.float32]  # over the heads, of the foreground's probability


def entropy_bits(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """(classes, h, w) probabilities -> (h, w) entropy in bits, 0 .. log2(classes); 0 log 0 is 0."""
    safe = np.where(probabilities > 0, probabilities, np.float32(1))  # log of 1 is 0
    return np.asarray(-(probabilities * np.log2(safe)).sum(axis=0), np.float32)  # (h, w)


def disagreement(heads: Sequence[NDArray[np.float32]]) -> Disagreement:
    """Probabilities of several heads, (classes, h, w) each. Raises DataError where there are none or shapes differ."""
    shapes = sorted({head.shape for head in heads})
    if len(shapes) != 1:
        raise DataError(f"heads of shapes {shapes or 'none'}; expected one shape (classes, h, w) for all")
    stack = np.stack(list(heads)).astype(np.float32)  # (heads, classes, h, w)
    mean = stack.mean(axis=0)  # (classes, h, w)
    total = entropy_bits(mean)
    own = np.asarray(np.mean([entropy_bits(head) for head in stack], axis=0), np.float32)  # (h, w)
    foreground = 1 - stack[:, 0]  # (heads, h, w)
    return Disagreement(mean, total, own, np.maximum(total - own, np.float32(0)), foreground.var(axis=0))
