"""The loss: a weighted sum of terms, each a mean over images.

Every image of a batch counts the same whatever its number of ignored pixels. So the gradient of a batch is the mean
of the gradients of its parts, and data-parallel training with equal shares computes what one process would.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import LossSpec
from edge_unet.core.registry import registry
from edge_unet.training.losses.maps import truth_maps
from edge_unet.training.losses.outlines import boundary, structure
from edge_unet.training.losses.pixels import border_ce, ce, focal
from edge_unet.training.losses.regions import dice, iou, tversky
from edge_unet.training.losses.similarity import ms_ssim
from edge_unet.training.losses.truth import Answer, Truth, truth_of

Outputs = Tensor | tuple[Tensor, ...]
"""Logits (N, C, H, W), or those of a deep network: (L1, …, Ln, mean)."""

TERMS: Mapping[str, Callable[[Answer], Tensor]] = registry(
    (
        ("ce", ce),
        ("dice", dice),
        ("focal", focal),
        ("tversky", tversky),
        ("border_ce", border_ce),
        ("boundary", boundary),
        ("structure", structure),
        ("ms_ssim", ms_ssim),
        ("iou", iou),
    )
)
"""The names of core.recipe.LossTerms."""


def heads_of(outputs: Outputs) -> tuple[Tensor, ...]:
    """The logits that are trained: the last output of a deep network, the mean of its heads, follows from them."""
    return (outputs,) if isinstance(outputs, Tensor) else outputs[:-1]


def over_heads(losses: list[Tensor], spec: LossSpec) -> Tensor:
    """One loss out of each head's: their mean, or as the recipe shares it out. A lone head counts 1.

    Raises UsageError where the recipe's shares are of another number.
    """
    if len(losses) == 1 or not spec.head_weights:
        return torch.stack(losses).mean()
    if len(losses) != len(spec.head_weights):
        raise UsageError(
            f"loss.head_weights has {len(spec.head_weights)} values, the network {len(losses)} heads; "
            "give one for each, L1 first, or leave it out"
        )
    shares = torch.tensor(spec.head_weights, device=losses[0].device) / sum(spec.head_weights)
    return (torch.stack(losses) * shares).sum()


def training_loss(outputs: Outputs, truth: Truth, spec: LossSpec) -> Tensor:
    """The loss of a network, a scalar in float32 whatever the autocast type of its logits."""
    return over_heads([head_loss(logits, truth, spec) for logits in heads_of(outputs)], spec)


def head_loss(logits: Tensor, truth: Truth, spec: LossSpec) -> Tensor:
    """The loss of one head's `logits` (N, C, H, W)."""
    answer = Answer(logits.float(), truth, spec)
    terms = [TERMS[name](answer) * weight for name, weight in spec.terms.used.items()]  # (N,) each
    return torch.stack(terms).sum(0).mean()


def segmentation_loss(logits: Tensor, target: Tensor, ignore: int, spec: LossSpec | None = None) -> Tensor:
    """The loss of `logits` (N, C, H, W) on `target` (N, H, W) int64 class ids, where pixels equal to `ignore` count
    nowhere; without a `spec` that of the default recipe, cross-entropy + (1 - soft Dice).

    C = 1 is binary (sigmoid), more is one channel per class (softmax).
    """
    spec = spec or LossSpec()
    channels = logits.shape[1]
    return head_loss(logits, truth_of(target, ignore, channels, truth_maps(spec, target, ignore, channels)), spec)
