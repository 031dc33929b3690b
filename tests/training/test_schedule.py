from __future__ import annotations

import pytest

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import Recipe, TrainSpec, parse_recipe
from edge_unet.core.spec import PreprocessSpec
from edge_unet.training.schedule import input_size, learning_rate_factor, training_sizes


def test_warm_up_then_cosine() -> None:
    spec = TrainSpec(epochs=10, warmup_epochs=2)
    factors = [learning_rate_factor(spec, step, 5) for step in range(50)]
    assert factors[0] == pytest.approx(0.01)
    assert factors[10] == 1.0
    assert factors[30] == pytest.approx(0.5)
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.01


def test_no_warm_up_starts_at_the_top_and_a_long_one_leaves_the_last_step() -> None:
    assert learning_rate_factor(TrainSpec(epochs=2, warmup_epochs=0), 0, 5) == 1.0
    long = TrainSpec(epochs=2, warmup_epochs=99)
    assert learning_rate_factor(long, 9, 5) == 1.0


def test_stages_give_each_epoch_its_size() -> None:
    spec = TrainSpec(stages=((128, 2), (192, 1)))
    recipe = Recipe(preprocess=PreprocessSpec(height=256, width=512), train=spec)
    assert spec.epochs == 3
    assert [input_size(recipe, spec, epoch) for epoch in range(4)] == [(128, 256), (128, 256), (192, 384), (256, 512)]
    assert input_size(recipe, TrainSpec(), 0) == (256, 512)
    assert training_sizes(recipe, spec) == [(128, 256), (192, 384)]
    assert training_sizes(recipe, TrainSpec()) == [(256, 512)]


def test_sizes_are_rounded_to_what_the_network_divides() -> None:
    spec = TrainSpec(stages=((100, 1), (5, 1)))
    recipe = Recipe(preprocess=PreprocessSpec(height=256, width=640), train=spec)
    assert input_size(recipe, spec, 0) == (96, 256)
    assert input_size(recipe, spec, 1) == (32, 32)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"stages": [[128, 7]], "epochs": 3}, "7 epochs but epochs = 3"),
        ({"stages": [[128]]}, "train.stages.0"),
        ({"stages": [[0, 3]]}, "greater than 0"),
        ({"stages": [[64, "many"]]}, "valid integer"),
        ({"stage": [[64, 3]]}, "did you mean 'stages'"),
    ],
)
def test_bad_stages_are_refused(train: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_recipe({"train": train}, source="recipe.toml")


def test_stages_survive_a_round_trip() -> None:
    recipe = parse_recipe({"train": {"stages": [[64, 3], [128, 2]]}}, source="recipe.toml")
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe
