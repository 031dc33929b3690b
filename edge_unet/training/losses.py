"""The loss: cross-entropy plus soft Dice, each a mean over images.

Both terms are means over the images of the batch, and every image counts the same whatever its number of ignored
pixels. So the gradient of a batch is the mean of the gradients of its parts, and data-parallel training with equal
shares computes what one process would.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

SMOOTH = 1.0
"""Added to both sides of the Dice fraction (Milletari et al. 2016 use none): an empty mask answered with an empty
prediction then scores 1, and its gradient stays finite."""


def training_loss(outputs: Tensor | tuple[Tensor, ...], target: Tensor, ignore: int) -> Tensor:
    """The loss of a network: of its logits, or the mean over the heads L1..Ln of a deep one (its last output, their
    mean, is not trained: it follows from them)."""
    heads = (outputs,) if isinstance(outputs, Tensor) else outputs[:-1]
    return torch.stack([segmentation_loss(head, target, ignore) for head in heads]).mean()


def segmentation_loss(logits: Tensor, target: Tensor, ignore: int) -> Tensor:
    """Cross-entropy + (1 - soft Dice), a scalar in float32 whatever the autocast type of the logits.

    `logits` (N, C, H, W): C = 1 is binary (sigmoid), more is one channel per class (softmax). `target` (N, H, W)
    int64 class ids; pixels equal to `ignore` count nowhere.
    """
    logits = logits.float()
    known = (target != ignore).float()  # (N, H, W)
    ids = target.masked_fill(target == ignore, 0)
    if logits.shape[1] == 1:
        return _binary(logits[:, 0], ids.float(), known)
    return _multiclass(logits, ids, known)


def _binary(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """All (N, H, W): BCE plus the Dice of the foreground, mean over images."""
    entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    dice = _dice(torch.sigmoid(logits) * known, truth * known, (1, 2))  # (N,)
    return (_image_mean(entropy, known) + 1 - dice).mean()


def _multiclass(logits: Tensor, ids: Tensor, known: Tensor) -> Tensor:
    """(N, C, H, W), (N, H, W), (N, H, W): CE plus the mean Dice over the classes that occur in each image's truth.

    A class absent from the truth has no Dice worth the name (any prediction scores about 0); CE punishes it.
    """
    entropy = functional.cross_entropy(logits, ids, reduction="none")  # (N, H, W)
    truth = functional.one_hot(ids, logits.shape[1]).permute(0, 3, 1, 2).float()  # (N, C, H, W)
    seen = known[:, None]  # (N, 1, H, W)
    truth = truth * seen
    dice = _dice(logits.softmax(dim=1) * seen, truth, (2, 3))  # (N, C)
    present = (truth.sum((2, 3)) > 0).float()  # (N, C)
    lost = ((1 - dice) * present).sum(1) / present.sum(1).clamp_min(1)  # (N,)
    return (_image_mean(entropy, known) + lost).mean()


def _image_mean(values: Tensor, known: Tensor) -> Tensor:
    """(N, H, W) -> (N,): mean over the known pixels of each image; 0 where an image has none."""
    return (values * known).sum((1, 2)) / known.sum((1, 2)).clamp_min(1)


def _dice(probability: Tensor, truth: Tensor, axes: tuple[int, int]) -> Tensor:
    """Soft Dice over the two pixel axes."""
    shared = (probability * truth).sum(axes)
    return (2 * shared + SMOOTH) / (probability.sum(axes) + truth.sum(axes) + SMOOTH)
