from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_unet.training.losses import segmentation_loss

IGNORE = 255


def oracle(logits: NDArray[np.float64], target: NDArray[np.int64]) -> float:
    """The definition, one pixel at a time."""
    losses = []
    for image, truth in zip(logits, target, strict=True):
        pixels = [(image[:, i, j], int(truth[i, j])) for i, j in np.argwhere(truth != IGNORE)]
        if image.shape[0] == 1:
            probabilities = [{1: 1 / (1 + math.exp(-z[0])), 0: 1 / (1 + math.exp(z[0]))} for z, _ in pixels]
            scored = {1}
        else:
            probabilities = []
            for z, _ in pixels:
                e = np.exp(z - z.max())
                probabilities.append(dict(enumerate(e / e.sum())))
            scored = {t for _, t in pixels}
        entropy = -sum(math.log(p[t]) for p, (_, t) in zip(probabilities, pixels, strict=True)) / len(pixels)
        dices = []
        for c in scored:
            hit = sum(p[c] for p, (_, t) in zip(probabilities, pixels, strict=True) if t == c)
            total = sum(p[c] for p in probabilities) + sum(t == c for _, t in pixels)
            dices.append((2 * hit + 1) / (total + 1))
        losses.append(entropy + 1 - sum(dices) / len(dices))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("channels", [1, 4])
def test_loss_is_its_definition(channels: int) -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (3, channels, 5, 6))
    target = rng.integers(0, max(2, channels), (3, 5, 6))
    target[rng.random(target.shape) < 0.3] = IGNORE
    target[1][target[1] == 1] = 0  # a class absent from one image
    got = segmentation_loss(torch.from_numpy(logits), torch.from_numpy(target), IGNORE)
    assert float(got) == pytest.approx(oracle(logits, target), rel=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_ignored_pixels_have_no_gradient(channels: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, channels, 8, 8, requires_grad=True)
    target = torch.randint(0, 2, (2, 8, 8))
    target[:, :3] = IGNORE
    segmentation_loss(logits, target, IGNORE).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, :3].any()
    assert logits.grad[:, :, 3:].abs().min() > 0


def test_an_image_without_known_pixels_is_finite() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = segmentation_loss(logits, torch.full((1, 4, 4), IGNORE), IGNORE)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("channels", [1, 3])
def test_loss_of_a_batch_is_the_mean_of_its_halves(channels: int) -> None:
    """What makes data-parallel training exact, also with unequal numbers of ignored pixels."""
    torch.manual_seed(1)
    logits, target = torch.randn(4, channels, 8, 8), torch.randint(0, 2, (4, 8, 8))
    target[0, :6] = IGNORE
    whole = segmentation_loss(logits, target, IGNORE)
    halves = [segmentation_loss(logits[part], target[part], IGNORE) for part in (slice(2), slice(2, 4))]
    assert float(whole) == pytest.approx(float(sum(halves)) / 2, rel=1e-6)


def test_confident_and_right_costs_almost_nothing() -> None:
    target = torch.zeros(1, 16, 16, dtype=torch.int64)
    target[0, 4:12, 4:12] = 1
    logits = (target[:, None].float() * 2 - 1) * 7.9375
    assert float(segmentation_loss(logits, target, IGNORE)) < 0.01
    assert float(segmentation_loss(-logits, target, IGNORE)) > 8


def test_half_precision_logits_are_scored_in_float32() -> None:
    logits = torch.randn(1, 1, 32, 32).to(torch.bfloat16)
    target = torch.randint(0, 2, (1, 32, 32))
    loss = segmentation_loss(logits, target, IGNORE)
    assert loss.dtype == torch.float32
    assert float(loss) == float(segmentation_loss(logits.float(), target, IGNORE))
