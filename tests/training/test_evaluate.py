from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edge_unet.core.recipe import Recipe
from edge_unet.core.spec import ClassSpec
from edge_unet.training.evaluate import evaluate, selection_score


class Threshold(nn.Module):
    """Logit = red channel of the real input; with three classes also green and blue."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.channels] * self.gain


def test_binary_scores_are_the_mean_over_images(recipe: Recipe) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    masks = (rng.random((5, 8, 8)) < 0.4).astype(np.uint8)
    predicted = frames[..., 0] > 128  # logit > 0
    dice = [2 * (p & (t == 1)).sum() / (p.sum() + t.sum()) for p, t in zip(predicted, masks, strict=True)]
    iou = [(p & (t == 1)).sum() / (p | (t == 1)).sum() for p, t in zip(predicted, masks, strict=True)]
    net = Threshold(1).train()
    scores = evaluate(net, torch.from_numpy(frames), torch.from_numpy(masks), recipe, batch=2)
    assert scores == pytest.approx({"val_dice": np.mean(dice), "val_iou": np.mean(iou)})
    assert selection_score(scores, recipe) == scores["val_dice"]


def test_multi_class_skips_ignored_pixels_and_is_selected_by_iou(recipe: Recipe) -> None:
    classes = ClassSpec(names=("a", "b", "c"), palette=((0, 0, 0),) * 3, ignore_value=7)
    recipe = recipe.model_copy(update={"classes": classes})
    frames = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    masks = frames.argmax(-1).astype(np.uint8)
    masks[:, :4] = 7
    wrong = masks.copy()
    wrong[0, 7] = (wrong[0, 7] + 1) % 3
    perfect = evaluate(Threshold(3), torch.from_numpy(frames), torch.from_numpy(masks), recipe)
    worse = evaluate(Threshold(3), torch.from_numpy(frames), torch.from_numpy(wrong), recipe)
    assert perfect == {"val_dice": 1.0, "val_iou": 1.0}
    assert selection_score(worse, recipe) == worse["val_iou"] < 1
