"""What a loss term reads: the truth of a batch, and one head's answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from edge_unet.core.recipe import LossSpec


@dataclass(frozen=True)
class Truth:
    """The truth of N images. Made once for all heads of a network; everything in it is free of ignored pixels."""

    ids: Tensor  # (N, H, W) int64 class ids, 0 where ignored
    known: Tensor  # (N, H, W) 1.0, or 0.0 where ignored
    layers: Tensor  # (N, C, H, W) 1.0 where the class is; C = 1 is the foreground of a binary task
    maps: Mapping[str, Tensor] = field(default_factory=dict)
    """What losses/maps.py computed for the terms that need it, by the term's name."""
    class_weights: Tensor | None = None
    """(classes,), two of them for a binary task."""

    @cached_property
    def scored(self) -> Tensor:
        """(N, C): 1.0 for the classes on which a region term scores an image.

        A class absent from the truth has no overlap worth the name (any prediction scores about 0); a cross-entropy
        punishes it. The foreground of a binary task always counts: an empty answer to an empty mask is right.
        """
        if self.layers.shape[1] == 1:
            return torch.ones_like(self.layers[:, :, 0, 0])
        return (self.layers.sum((2, 3)) > 0).float()

    @cached_property
    def pixel_weights(self) -> Tensor:
        """(N, H, W): the class weight of every known pixel, 0 where ignored."""
        return self.known if self.class_weights is None else self.class_weights[self.ids] * self.known

    def image_mean(self, values: Tensor, weights: Tensor | None = None) -> Tensor:
        """(N, H, W) -> (N,): weighted sum over the known pixels of each image by their number; 0 where it has none."""
        total = (values * (self.known if weights is None else weights)).sum((1, 2))
        return total / self.known.sum((1, 2)).clamp_min(1)

    def class_mean(self, values: Tensor) -> Tensor:
        """(N, C) -> (N,): mean over the scored classes."""
        return (values * self.scored).sum(1) / self.scored.sum(1).clamp_min(1)


def truth_of(
    target: Tensor,
    ignore: int,
    channels: int,
    maps: Mapping[str, Tensor] | None = None,
    class_weights: Tensor | None = None,
) -> Truth:
    """The truth in `target` (N, H, W) int64 class ids, for logits of `channels` channels (1 = binary)."""
    known = (target != ignore).float()  # (N, H, W)
    ids = target.masked_fill(target == ignore, 0)
    classes = torch.arange(channels, device=ids.device)[:, None, None] if channels > 1 else 1
    layers = (ids[:, None] == classes).float() * known[:, None]  # (N, C, H, W)
    return Truth(ids, known, layers, maps or {}, class_weights)


@dataclass(frozen=True)
class Answer:
    """One head's logits (N, C, H, W) in float32 beside the truth; what several terms share is computed once."""

    logits: Tensor
    truth: Truth
    spec: LossSpec

    @cached_property
    def probability(self) -> Tensor:
        """(N, C, H, W): sigmoid or softmax, 0 where ignored."""
        free = torch.sigmoid(self.logits) if self.logits.shape[1] == 1 else self.logits.softmax(dim=1)
        return free * self.truth.known[:, None]

    @cached_property
    def entropy(self) -> Tensor:
        """(N, H, W): cross-entropy with the bare truth."""
        if self.logits.shape[1] > 1:
            return functional.cross_entropy(self.logits, self.truth.ids, reduction="none")
        return functional.binary_cross_entropy_with_logits(self.logits[:, 0], self.truth.ids.float(), reduction="none")

    @cached_property
    def smoothed_entropy(self) -> Tensor:
        """(N, H, W): cross-entropy with the truth smoothed as the recipe says (Szegedy et al. 2016, section 7)."""
        share = self.spec.label_smoothing
        if not share:
            return self.entropy
        if self.logits.shape[1] > 1:
            even = -functional.log_softmax(self.logits, dim=1).mean(1)  # (N, H, W)
        else:
            logits = self.logits[:, 0]
            even = functional.softplus(logits) - logits / 2  # the mean of -log p and -log(1 - p)
        return (1 - share) * self.entropy + share * even
