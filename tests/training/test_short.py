"""Short trainings repeat, and the proxy tells a network that separates frames from one that cannot."""

from __future__ import annotations

import pytest
import torch
from small_road import write_pairs
from torch import nn

from edge_unet.core.recipe import DataSpec, ModelSpec, Recipe, TrainSpec
from edge_unet.core.spec import PreprocessSpec
from edge_unet.data.open import open_data
from edge_unet.data.subset import seeded_subset
from edge_unet.models import build
from edge_unet.models.edge_unet_plan import model_of, parse_plan
from edge_unet.training.short import naswot, short_score


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A small edge_unet on discs."""
    room = tmp_path_factory.mktemp("short")
    write_pairs(room / "train", 24, 1)
    write_pairs(room / "val", 6, 2)
    return Recipe(
        model=model_of(parse_plan("32x1,32x1/32")),
        preprocess=PreprocessSpec(height=64, width=64),
        data=DataSpec(train=(str(room),)),
        train=TrainSpec(epochs=4, batch=8, learning_rate=1e-2, warmup_epochs=0.5, ema_decay=0.8, amp="off"),
    )


def test_a_short_training_repeats_and_learns(recipe: Recipe) -> None:
    data = open_data(recipe, "train"), open_data(recipe, "val")
    one, two = short_score(recipe, *data), short_score(recipe, *data)
    assert one.score == two.score
    assert one.seconds > 0
    assert one.score > 0.5
    other = short_score(recipe.model_copy(update={"seed": 1}), *data)
    assert other.score != one.score


def test_a_subset_is_a_function_of_its_seed(recipe: Recipe) -> None:
    whole = open_data(recipe, "train")
    part, same, other = seeded_subset(whole, 5, 0), seeded_subset(whole, 5, 0), seeded_subset(whole, 5, 1)
    assert len(part) == 5
    assert part.names == same.names != other.names
    assert part.sha256 == same.sha256 != other.sha256
    assert part.name == f"5 of {whole.name}"
    place = list(whole.names).index(part.names[2])
    assert (part.load(2)[0] == whole.load(place)[0]).all()
    assert part.frame_sha256(2) == whole.frame_sha256(place)
    assert seeded_subset(whole, 24, 0) is whole


def test_the_proxy_counts_the_units_that_two_frames_switch_alike(recipe: Recipe) -> None:
    """By the paper's definition, one pair of frames at a time."""
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8)
    torch.manual_seed(recipe.seed)
    net = build(recipe).train()
    codes: list[torch.Tensor] = []
    for module in net.modules():
        if isinstance(module, nn.ReLU6):
            module.register_forward_hook(lambda _m, _i, y: codes.append((y > 0).flatten(1)))
    with torch.no_grad():
        net((frames.permute(0, 3, 1, 2).float() - 128) / 64)
    code = torch.cat(codes, dim=1)
    share = torch.tensor([[float((a == b).double().mean()) for b in code] for a in code], dtype=torch.float64)
    assert naswot(recipe, frames) == pytest.approx(float(torch.logdet(share)), rel=1e-6)


def test_the_proxy_sees_whether_frames_are_told_apart(recipe: Recipe) -> None:
    torch.manual_seed(0)
    different = torch.randint(0, 256, (6, 64, 64, 3), dtype=torch.uint8)
    value = naswot(recipe, different)
    assert value is not None
    assert value == naswot(recipe, different)
    faint = (different[:1].float() + torch.randn(6, 64, 64, 3) * 20).clamp(0, 255).to(torch.uint8)
    alike = naswot(recipe, faint)
    assert alike is not None
    assert alike < value - 1
    assert naswot(recipe, different[:1].repeat(6, 1, 1, 1)) is None  # singular
    assert naswot(recipe.model_copy(update={"model": ModelSpec(name="unet", base=8, depth=2)}), different) is not None
