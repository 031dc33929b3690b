"""What a network is worth before anybody trains it for long: a short training, and a proxy that needs none."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_unet.core.recipe import Recipe
from edge_unet.data.datasets import Dataset
from edge_unet.models import build
from edge_unet.training.evaluate import selection_score
from edge_unet.training.phases import train
from edge_unet.training.progress import NoProgress

PROXY_FRAMES = 16


@dataclass(frozen=True)
class ShortScore:
    """Dice (binary) or mIoU on the validation frames after the last epoch, and what it took."""

    score: float
    seconds: float


def short_score(recipe: Recipe, train_data: Dataset, val_data: Dataset) -> ShortScore:
    """Train the FP32 network of the recipe and score it; nothing is kept.

    The same recipe, data, machine and threads give the same score. Raises EdgeUnetError where the loss diverges.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        result = train(recipe, Path(room), train_data=train_data, val_data=val_data, progress=NoProgress())
    return ShortScore(selection_score(result.metrics, recipe), time.monotonic() - started)


@torch.no_grad()
def naswot(recipe: Recipe, frames: Tensor) -> float | None:
    """log |K| of untrained activation patterns (Mellor et al. 2021, "Neural Architecture Search without Training").

    `frames` (N, H, W, C) u8. K counts the ReLU6s that two frames switch alike (on or off), so it is singular where a
    network cannot tell frames apart: the higher the better. Counted as a share of all units, which makes networks of
    different size comparable by how they separate, not by how many units they have; None where K is singular.
    """
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        net = build(recipe).train()
    alike = torch.zeros(len(frames), len(frames), dtype=torch.float64)
    units = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal alike, units
        on = (output.flatten(1) > 0).double()  # (N, units)
        alike += on @ on.T + (1 - on) @ (1 - on).T  # (N, N)
        units += on.shape[1]

    for module in net.modules():
        if isinstance(module, nn.ReLU6):
            module.register_forward_hook(count)
    x = frames.permute(0, 3, 1, 2).float()  # (N, C, H, W)
    net((x - recipe.preprocess.mean) * recipe.preprocess.scale)
    sign, log_determinant = torch.linalg.slogdet(alike / max(1, units))
    return float(log_determinant) if float(sign) > 0 else None
