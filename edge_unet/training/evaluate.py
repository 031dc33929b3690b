"""Validation scores of a torch network, with a plain threshold at logit 0 or argmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from edge_unet.core.confusion import Confusion
from edge_unet.core.recipe import Recipe
from edge_unet.core.spec import mask_from_logits

DEEPEST = -2
"""Place of the deepest head among the outputs (L1, …, Ln, mean) of a network with deep supervision."""


class Validation(Protocol):
    """What decides which weights of a training are kept."""

    def scores(self, net: nn.Module) -> dict[str, float]:
        """What is logged of a network; it is left in eval mode."""
        ...

    def worth(self, scores: Mapping[str, float]) -> float:
        """One number out of the scores: the higher the better."""
        ...


@dataclass(frozen=True)
class Segmentation:
    """Masks against the truth: (N, H, W, C) u8 frames and (N, H, W) u8 masks."""

    frames: Tensor
    masks: Tensor
    recipe: Recipe

    def scores(self, net: nn.Module) -> dict[str, float]:
        """See `evaluate`."""
        return evaluate(net, self.frames, self.masks, self.recipe)

    def worth(self, scores: Mapping[str, float]) -> float:
        """See `selection_score`."""
        return selection_score(scores, self.recipe)


@torch.inference_mode()
def evaluate(net: nn.Module, frames: Tensor, masks: Tensor, recipe: Recipe, batch: int = 16) -> dict[str, float]:
    """{'val_dice', 'val_iou'} over (N, H, W, C) u8 frames and (N, H, W) u8 masks at the network's input size.

    Binary: mean over images of the foreground. Multi-class: mean over classes of pooled pixels. The network is put
    in eval mode and left in it.
    """
    net.eval()
    device = next(net.parameters()).device
    scores = Confusion(len(recipe.classes.names), recipe.classes.ignore_value)
    for first in range(0, len(frames), batch):
        x = frames[first : first + batch].permute(0, 3, 1, 2).to(device).float()  # (n, C, H, W)
        outputs = net((x - recipe.preprocess.mean) * recipe.preprocess.scale)
        logits = outputs if isinstance(outputs, Tensor) else outputs[DEEPEST]
        predicted = mask_from_logits(logits.float().cpu().numpy())  # (n, H, W)
        for answer, truth in zip(predicted, masks[first : first + batch].numpy(), strict=True):
            scores.add(answer, truth)
    return {"val_dice": scores.dice(), "val_iou": scores.iou()}


def selection_score(metrics: Mapping[str, float], recipe: Recipe) -> float:
    """What decides which weights are kept: Dice for binary masks, mIoU for several classes, as the literatures do."""
    return metrics["val_dice" if recipe.classes.channels == 1 else "val_iou"]
