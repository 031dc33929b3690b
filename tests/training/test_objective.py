from __future__ import annotations

import pytest
import torch

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import LossSpec, ModelSpec, Recipe, TrainSpec
from edge_unet.models import build
from edge_unet.training.batches import Batch
from edge_unet.training.losses import segmentation_loss, training_loss, truth_maps, truth_of
from edge_unet.training.objective import Objective, check_loss, class_weights

DEEP = ModelSpec(name="unetpp", base=8, depth=3, deep=True)


def with_loss(recipe: Recipe, **loss: object) -> Recipe:
    return recipe.model_copy(update={"loss": LossSpec.model_validate(loss)})


def test_without_a_teacher_it_is_the_loss(recipe: Recipe) -> None:
    torch.manual_seed(0)
    recipe = with_loss(recipe, terms={"ce": 1, "border_ce": 1, "boundary": 1}, class_weights="median_frequency")
    logits, y = torch.randn(4, 1, 32, 32), (torch.rand(4, 32, 32) > 0.8).long()
    weights = class_weights(recipe, y.byte())
    batch = Batch(torch.zeros(4, 3, 32, 32), y, truth_maps(recipe.loss, y, 255, 1))
    objective = Objective(recipe, weights)
    assert weights is not None
    assert weights[1] > 1 > weights[0]
    truth = truth_of(y, 255, 1, batch.maps, weights)
    assert float(objective(batch, logits)) == float(training_loss(logits, truth, recipe.loss))
    plain = Objective(recipe)
    assert float(plain(batch, logits)) == float(segmentation_loss(logits, y, 255, recipe.loss))
    assert float(plain(batch, logits)) != float(objective(batch, logits))
    assert (objective.adapter, objective.adapter_state(), objective.teacher_sha256) == (None, {}, None)
    assert objective.recorded_weights == pytest.approx(weights.tolist(), abs=1e-6)
    assert plain.recorded_weights is None


def test_class_weights_only_where_wanted(recipe: Recipe) -> None:
    assert class_weights(recipe, torch.zeros(1, 4, 4, dtype=torch.uint8)) is None


def test_head_weights_must_fit_the_heads(recipe: Recipe) -> None:
    deep = with_loss(recipe.model_copy(update={"model": DEEP}), head_weights=(1, 1, 2))
    assert check_loss(deep, build(deep)) == []
    four = with_loss(deep, head_weights=(1, 1, 1, 1))
    with pytest.raises(UsageError, match=r"4 values, unetpp has 3 head\(s\); give one for each"):
        check_loss(four, build(four))
    pruned = deep.model_copy(update={"model": DEEP.model_copy(update={"level": "L2"})})
    assert check_loss(pruned, build(pruned)) == []
    lone = with_loss(recipe, head_weights=(1,))
    assert check_loss(lone, build(lone)) == []


def test_small_sizes_of_either_phase_are_told(recipe: Recipe) -> None:
    qat = recipe.quantize.model_copy(update={"qat": TrainSpec(stages=((32, 1), (176, 1)))})
    recipe = with_loss(recipe.model_copy(update={"quantize": qat}), terms={"ms_ssim": 1})
    lines = check_loss(recipe, build(recipe))
    assert [line.split(": ")[1].split(",")[0] for line in lines] == ["2 of 5 scales at 32x32", "3 of 5 scales at 64x64"]
