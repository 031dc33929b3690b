"""Every term of the loss: its definition by oracles that we did not write, and what holds for all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional.image import structural_similarity_index_measure

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import LossSpec, LossTerms
from edge_unet.training.losses import TERMS, median_frequency, segmentation_loss, training_loss, truth_of
from edge_unet.training.losses.similarity import WEIGHTS, scale_weights

IGNORE = 255
NAMES = tuple(TERMS)


def only(name: str, **options: object) -> LossSpec:
    return LossSpec.model_validate({"terms": {name: 1.0}, **options})


def case(channels: int, seed: int = 0, size: int = 24, count: int = 3, unknown: bool = True) -> tuple[Tensor, Tensor]:
    """Logits (count, channels, size, size) and targets of a few rectangles each, some pixels ignored."""
    rng = np.random.default_rng(seed)
    target = np.zeros((count, size, size), np.int64)
    for image in target:
        for _ in range(4):
            top, left = rng.integers(0, size - 4, 2)
            height, width = rng.integers(2, size // 2, 2)
            image[top : top + height, left : left + width] = rng.integers(0, max(2, channels))
    if unknown:
        target[:, : size // 6] = IGNORE
    return torch.from_numpy(rng.normal(0, 2, (count, channels, size, size))).float(), torch.from_numpy(target)


def perfect(target: Tensor, channels: int) -> Tensor:
    """Logits that are sure of every known pixel."""
    ids = target.masked_fill(target == IGNORE, 0)
    if channels == 1:
        return (ids[:, None].float() * 2 - 1) * 30
    return functional.one_hot(ids, channels).permute(0, 3, 1, 2).float() * 60 - 30


def test_the_registry_has_the_recipes_names() -> None:
    assert tuple(LossTerms.model_fields) == NAMES


class TestAllTerms:
    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("name", NAMES)
    def test_ignored_pixels_have_no_gradient(self, name: str, channels: int) -> None:
        logits, target = case(channels)
        logits.requires_grad_()
        segmentation_loss(logits, target, IGNORE, only(name)).backward()
        assert logits.grad is not None
        assert logits.grad.isfinite().all()
        assert not logits.grad[:, :, :4].any()
        assert logits.grad[:, :, 4:].any()

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("name", NAMES)
    def test_a_batch_is_the_mean_of_its_parts(self, name: str, channels: int) -> None:
        """What makes data-parallel training exact, also with unequal numbers of ignored pixels."""
        logits, target = case(channels, seed=3, count=4)
        target[0, :15] = IGNORE
        whole = segmentation_loss(logits, target, IGNORE, only(name))
        parts = [segmentation_loss(logits[i : i + 2], target[i : i + 2], IGNORE, only(name)) for i in (0, 2)]
        assert float(whole) == pytest.approx(float(sum(parts)) / 2, rel=1e-5)

    @pytest.mark.parametrize("name", NAMES)
    @given(seed=st.integers(0, 10_000), channels=st.sampled_from([1, 3]))
    @settings(max_examples=8, deadline=None)
    def test_order_and_ignored_pixels_do_not_matter(self, name: str, seed: int, channels: int) -> None:
        logits, target = case(channels, seed)
        generator = torch.Generator().manual_seed(seed)
        before = float(segmentation_loss(logits, target, IGNORE, only(name)))
        order = torch.randperm(len(logits), generator=generator)
        elsewhere = torch.where((target == IGNORE)[:, None], torch.randn(logits.shape, generator=generator) * 9, logits)
        after = float(segmentation_loss(elsewhere[order], target[order], IGNORE, only(name)))
        assert after == pytest.approx(before, rel=1e-4, abs=1e-6)

    @pytest.mark.parametrize("name", NAMES)
    @given(seed=st.integers(0, 10_000), channels=st.sampled_from([1, 3]), noise=st.floats(0.1, 50))
    @settings(max_examples=8, deadline=None)
    def test_nothing_beats_a_perfect_answer(self, name: str, seed: int, channels: int, noise: float) -> None:
        logits, target = case(channels, seed)
        best = perfect(target, channels)
        least = float(segmentation_loss(best, target, IGNORE, only(name)))
        assert abs(least) < 2e-3
        assert float(segmentation_loss(best + logits * noise, target, IGNORE, only(name))) >= least - 1e-5
        assert float(segmentation_loss(-best, target, IGNORE, only(name))) > least + 1e-3

    @pytest.mark.parametrize("channels", [1, 3])
    @pytest.mark.parametrize("name", NAMES)
    def test_empty_unknown_and_full_masks_are_finite(self, name: str, channels: int) -> None:
        for value in (0, 1, IGNORE):
            logits = torch.randn(2, channels, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
            loss = segmentation_loss(logits, torch.full((2, 16, 16), value), IGNORE, only(name))
            loss.backward()
            assert logits.grad is not None
            assert torch.isfinite(loss)
            assert logits.grad.isfinite().all()
            if value == IGNORE:
                assert float(loss.detach()) == pytest.approx(0, abs=1e-6)
                assert not logits.grad.any()

    def test_terms_add_up_with_their_weights(self) -> None:
        logits, target = case(1)
        both = LossSpec.model_validate({"terms": {"focal": 2.0, "iou": 0.5}})
        parts = [float(segmentation_loss(logits, target, IGNORE, only(name))) for name in ("focal", "iou")]
        assert float(segmentation_loss(logits, target, IGNORE, both)) == pytest.approx(2 * parts[0] + 0.5 * parts[1])


class TestPixels:
    @pytest.mark.parametrize("name", ["ce", "focal", "border_ce"])
    def test_binary_is_two_classes_of_which_one_is_silent(self, name: str) -> None:
        logits, target = case(1)
        spec = only(name, label_smoothing=0.1, focal_alpha=0.3)
        two = torch.cat([torch.zeros_like(logits), logits], 1)
        assert float(segmentation_loss(logits, target, IGNORE, spec)) == pytest.approx(
            float(segmentation_loss(two, target, IGNORE, spec)), rel=1e-5
        )

    def test_smoothing_and_class_weights_are_torchs(self) -> None:
        logits, target = case(3, unknown=False)
        weights = torch.tensor([0.2, 1.0, 3.0])
        smooth = segmentation_loss(logits, target, IGNORE, only("ce", label_smoothing=0.2))
        assert float(smooth) == pytest.approx(
            float(functional.cross_entropy(logits, target, label_smoothing=0.2)), rel=1e-5
        )
        weighted = training_loss(logits, truth_of(target, IGNORE, 3, class_weights=weights), only("ce"))
        expected = functional.cross_entropy(logits, target, weights, reduction="none").mean()
        assert float(weighted) == pytest.approx(float(expected), rel=1e-5)

    @pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
    def test_focal_by_hand(self, gamma: float) -> None:
        """Three pixels with p of the truth 0.9, 0.6, 0.2; the second is background."""
        p = torch.tensor([0.9, 0.4, 0.2])
        logits, target = torch.logit(p).view(1, 1, 1, 3), torch.tensor([[[1, 0, 1]]])
        pt, alpha = [0.9, 0.6, 0.2], [0.25, 0.75, 0.25]
        expected = sum(-a * (1 - q) ** gamma * math.log(q) for a, q in zip(alpha, pt, strict=True)) / 3
        spec = only("focal", focal_gamma=gamma, focal_alpha=0.25)
        assert float(segmentation_loss(logits, target, IGNORE, spec)) == pytest.approx(expected, rel=1e-5)

    def test_median_frequency_by_hand(self) -> None:
        """Class 1 has 4 of 16 pixels of one image, class 2 has 2 of the 14 known ones of another, class 0 the rest."""
        masks = torch.zeros(3, 4, 4, dtype=torch.uint8)
        masks[0, 0] = 1
        masks[1, 0, :2] = 2
        masks[1, 3, :2] = IGNORE
        frequency = np.array([(12 + 12 + 16) / (16 + 14 + 16), 4 / 16, 2 / 14])
        weights = median_frequency(masks, 4, IGNORE)
        assert weights[:3].tolist() == pytest.approx((0.25 / frequency).tolist())
        assert float(weights[3]) == 0  # no mask shows it


class TestRegions:
    def test_by_hand(self) -> None:
        """Probabilities 0.8, 0.3 on foreground, 0.4, 0.1 on background."""
        p = torch.tensor([[0.8, 0.3], [0.4, 0.1]])
        logits, target = torch.logit(p)[None, None], torch.tensor([[[1, 1], [0, 0]]])
        hit, false, missed = 1.1, 0.5, 0.9
        expected = {
            "dice": 1 - (2 * hit + 1) / (1.6 + 2 + 1),
            "iou": 1 - (hit + 1) / (hit + false + missed + 1),
            "tversky": 1 - (hit + 1) / (hit + 0.3 * false + 0.7 * missed + 1),
        }
        for name, value in expected.items():
            assert float(segmentation_loss(logits, target, IGNORE, only(name))) == pytest.approx(value, rel=1e-5)

    def test_even_tversky_is_dice_up_to_its_smoothing(self) -> None:
        logits, target = case(3, size=96, unknown=False)
        even = segmentation_loss(logits, target, IGNORE, only("tversky", tversky_alpha=0.5, tversky_beta=0.5))
        assert float(even) == pytest.approx(float(segmentation_loss(logits, target, IGNORE, only("dice"))), abs=2e-3)


def similarity(a: Tensor, b: Tensor, *, last: bool) -> Tensor:
    """One scale, (N,): torchmetrics' SSIM where no edge is reflected, or its contrast term. (Its multi-scale function
    counts reflected edges in the last scale, and refuses sizes at which the window still fits.)"""
    options = {"data_range": 1.0, "reduction": "none"}
    if last:
        return structural_similarity_index_measure(a, b, return_full_image=True, **options)[1][..., 5:-5, 5:-5].mean(
            (1, 2, 3)
        )
    return structural_similarity_index_measure(a, b, return_contrast_sensitivity=True, **options)[1]


class TestSimilarity:
    @pytest.mark.parametrize(("height", "width", "scales"), [(176, 176, 5), (96, 130, 4), (32, 48, 2), (11, 20, 1)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_torchmetrics_agrees(self, height: int, width: int, scales: int, channels: int) -> None:
        logits, target = case(channels, size=max(height, width), count=2, unknown=False)
        logits, target = logits[..., :height, :width], target[:, :height, :width]
        logits = logits + perfect(target, channels) / 20  # a likeness to measure
        weights = scale_weights(height, width)
        assert len(weights) == scales
        probability = logits.sigmoid() if channels == 1 else logits.softmax(1)
        layers = truth_of(target, IGNORE, channels).layers
        expected = torch.ones(2)
        for number, weight in enumerate(weights):
            expected *= ((similarity(probability, layers, last=number + 1 == scales) + 1) / 2) ** weight
            probability, layers = (functional.avg_pool2d(maps, 2) for maps in (probability, layers))
        loss = float(segmentation_loss(logits, target, IGNORE, only("ms_ssim")))
        assert loss == pytest.approx(1 - float(expected.mean()), abs=2e-5)
        assert 0.001 < loss < 0.9

    def test_scales_are_left_out_below_176_pixels(self) -> None:
        assert scale_weights(176, 900) == WEIGHTS
        assert scale_weights(175, 900) == pytest.approx([w / sum(WEIGHTS[:4]) for w in WEIGHTS[:4]])
        assert scale_weights(21, 21) == (1.0,)
        with pytest.raises(UsageError, match="at least 11 pixels a side, received 10x64"):
            scale_weights(10, 64)


class TestHeads:
    def test_all_heads_count_alike_and_the_mean_is_not_trained(self) -> None:
        logits, target = case(1)
        truth, spec = truth_of(target, IGNORE, 1), LossSpec()
        losses = [float(training_loss(logits * k, truth, spec)) for k in (1, 2, 3)]
        outputs = (logits, logits * 2, logits * 3, logits * 99)
        assert float(training_loss(outputs, truth, spec)) == pytest.approx(sum(losses) / 3, rel=1e-6)
        shares = spec.model_copy(update={"head_weights": (0.0, 1.0, 3.0)})
        assert float(training_loss(outputs, truth, shares)) == pytest.approx((losses[1] + 3 * losses[2]) / 4, rel=1e-6)
        assert float(training_loss(logits, truth, shares)) == losses[0]
        with pytest.raises(UsageError, match="3 values, the network 2 heads"):
            training_loss(outputs[1:], truth, shares)
