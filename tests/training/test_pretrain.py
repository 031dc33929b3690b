"""The warm-up: what is hidden, what is learnt of it, and what a training takes over."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec, PretrainSpec, Recipe, TrainSpec
from edge_unet.models import build
from edge_unet.models.checkpoint import load_checkpoint
from edge_unet.quantization.restore import restore
from edge_unet.training import pretrain, train, train_both
from edge_unet.training.batches import Batches
from edge_unet.training.peers import Peers
from edge_unet.training.pretrain import (
    PHASE,
    HidingBatches,
    Repainted,
    Repainting,
    hidden_patches,
    painter,
    repaint_error,
    warm,
)
from edge_unet.training.progress import EpochRecord, NoProgress
from tests.training.conftest import Squares

Data = tuple[Squares, Squares]


@pytest.fixture
def painted(recipe: Recipe) -> Recipe:
    """The tiny recipe with a warm-up of 4 epochs of 6 batches."""
    spec = TrainSpec(epochs=4, batch=8, learning_rate=1e-2, warmup_epochs=1, ema_decay=0.9)
    return recipe.model_copy(update={"pretrain": PretrainSpec(patch=16, hidden=0.5, train=spec)})


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("patch", "hidden", "count"), [(16, 0.5, 6), (16, 0.25, 3), (32, 0.6, 2), (48, 0.01, 1)])
def test_the_same_share_of_whole_patches_is_hidden(patch: int, hidden: float, count: int) -> None:
    spec = PretrainSpec(patch=patch, hidden=hidden)
    mask = hidden_patches(20, (48, 64), spec, chance())
    assert mask.shape == (20, 1, 48, 64)
    corners = mask[:, :, ::patch, ::patch]  # one pixel of each patch
    assert corners.flatten(1).sum(1).tolist() == [count] * 20
    whole = corners.repeat_interleave(patch, 2).repeat_interleave(patch, 3)[:, :, :48, :64]
    assert torch.equal(mask, whole)
    assert len({tuple(row.tolist()) for row in mask.flatten(1)}) > 1  # another choice for each image


def batches_of(recipe: Recipe, masks: Tensor | None = None) -> HidingBatches:
    frames = torch.randint(0, 256, (16, 64, 64, 3), dtype=torch.uint8, generator=chance(1))
    masks = torch.zeros(16, 64, 64, dtype=torch.uint8) if masks is None else masks
    return HidingBatches(frames, masks, recipe, recipe.pretrain.train, PHASE, torch.device("cpu"))


def test_a_batch_is_the_picture_less_what_is_hidden(painted: Recipe) -> None:
    recipe = painted.model_copy(update={"augment": painted.augment.model_copy(update={"shift": 0.5})})
    batches = batches_of(recipe)
    x, y, maps = batches.batch(0, 0)
    plain = Batches.batch(batches, 0, 0)
    assert torch.equal(maps["picture"], plain.x)
    assert torch.equal(y, plain.y)
    counted, outside = maps["counted"], (y == 255)[:, None]
    assert outside.any()
    assert not (counted & outside).any()
    changed = (x != maps["picture"]).any(1, keepdim=True)
    assert (x[counted.expand_as(x)] == 0).all()
    assert not (changed & ~counted & ~outside).any()
    assert 0.1 < counted.float().mean() < 0.5
    again = batches.batch(0, 0)
    assert torch.equal(again.x, x)
    assert not torch.equal(batches.batch(0, 1).x, x)


def test_the_error_is_of_hidden_pixels_alone() -> None:
    picture, counted = torch.zeros(2, 3, 4, 4), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    counted[0, 0, :2] = True
    wrong = torch.full_like(picture, 9.0)
    wrong[0, :, :2] = 0.5
    assert repaint_error(wrong, picture, counted).item() == pytest.approx(0.5)
    assert repaint_error(wrong, picture, torch.zeros_like(counted)).item() == 0


def test_heads_share_the_loss_as_the_recipe_says(painted: Recipe) -> None:
    recipe = painted.model_copy(update={"loss": painted.loss.model_copy(update={"head_weights": (1.0, 3.0)})})
    batch = batches_of(recipe).batch(0, 0)
    picture = batch.maps["picture"]
    outputs = (picture + 1, picture + 2, picture + 100)  # two heads and their mean, which is not trained
    assert Repainting(recipe)(batch, outputs).item() == pytest.approx((1 * 1 + 2 * 3) / 4)


def test_the_score_is_in_grey_levels(painted: Recipe) -> None:
    class Grey(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.level = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros_like(x)

    frames = torch.full((5, 64, 64, 3), 138, dtype=torch.uint8)  # 10 from mid-grey
    judge = Repainted(frames, painted)
    assert judge.scores(Grey()) == pytest.approx({"val_error": 10.0})
    assert judge.worth({"val_error": 3.0}) > judge.worth({"val_error": 4.0})


@pytest.mark.parametrize(("channels", "order", "planes"), [(3, "RGB", 3), (1, "GRAY", 1)])
def test_the_painter_is_the_network_but_for_its_heads(painted: Recipe, channels: int, order: str, planes: int) -> None:
    frame = painted.preprocess.model_copy(update={"channels": channels, "color_order": order})
    recipe = painted.model_copy(update={"preprocess": frame})
    net, brush = build(recipe).state_dict(), painter(recipe).state_dict()
    assert net.keys() == brush.keys()
    other = {name for name in net if net[name].shape != brush[name].shape}
    assert {brush[name].shape[0] for name in other} == ({planes} if planes > 1 else set())


def run(recipe: Recipe, out: Path, data: Data, resume: bool = False) -> Path:
    result = pretrain(recipe, out, pictures=data[0], val_data=data[1], progress=NoProgress(), resume=resume)
    assert result.metrics["val_error"] > 0
    return result.checkpoint


def test_painting_is_learnt_and_a_training_starts_from_it(painted: Recipe, squares: Data, tmp_path: Path) -> None:
    before = Repainted(torch.from_numpy(squares[1].load(0)[0])[None], painted).scores(painter(painted))
    path = run(painted, tmp_path / "a", squares)
    made = load_checkpoint(path)
    assert made.info.kind == "pretrain"
    assert made.info.metrics["val_error"] < before["val_error"] * 0.7
    start = warm(build(painted), made, painted, path).state_dict()
    fresh = build(painted).state_dict()
    left = [name for name in start if not torch.equal(start[name], made.state.get(name, torch.empty(0)))]
    assert left == [name for name in start if fresh[name].shape != made.state[name].shape] != []

    both = train_both(
        painted, tmp_path / "b", train_data=squares[0], val_data=squares[1], init=path, progress=NoProgress()
    )
    first, second = (load_checkpoint(result.checkpoint).info for result in both)
    assert first.parent_sha256 == made.sha256
    assert first.kind == "fp32"
    assert second.kind == "qat"
    assert second.metrics["val_dice"] > 0.5


def test_a_resume_gives_the_same_bits(painted: Recipe, squares: Data, tmp_path: Path) -> None:
    unbroken = load_checkpoint(run(painted, tmp_path / "a", squares)).state

    class Interrupted(NoProgress):
        def epoch(self, record: EpochRecord) -> None:
            if record.epoch == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(painted, tmp_path / "b", pictures=squares[0], val_data=squares[1], progress=Interrupted())
    resumed = load_checkpoint(run(painted, tmp_path / "b", squares, resume=True)).state
    assert resumed.keys() == unbroken.keys()
    assert all(torch.equal(resumed[name], unbroken[name]) for name in unbroken)
    with pytest.raises(UsageError, match="already holds a training"):
        run(painted, tmp_path / "b", squares)
    other = painted.model_copy(update={"pretrain": painted.pretrain.model_copy(update={"patch": 8})})
    with pytest.raises(UsageError, match=r"\[pretrain\]"):
        run(other, tmp_path / "b", squares, resume=True)


def test_what_a_warm_up_cannot_start(painted: Recipe, squares: Data, tmp_path: Path) -> None:
    path = run(painted, tmp_path / "a", squares)
    made = load_checkpoint(path)
    with pytest.raises(UsageError, match="has seen no mask"):
        restore(made)
    wider = painted.model_copy(update={"model": ModelSpec(width=0.5, depth=3)})
    with pytest.raises(UsageError, match=r"a warm-up of \[model\]"):
        train(wider, tmp_path / "b", train_data=squares[0], val_data=squares[1], init=path, progress=NoProgress())
    darker = painted.model_copy(update={"preprocess": painted.preprocess.model_copy(update={"mean": 100.0})})
    with pytest.raises(UsageError, match=r"a warm-up of \[preprocess\]"):
        train(darker, tmp_path / "c", train_data=squares[0], val_data=squares[1], init=path, progress=NoProgress())
    with pytest.raises(UsageError, match="has seen no mask"):
        train(painted, tmp_path / "d", train_data=squares[0], val_data=squares[1], init=path, phase="qat")
    # another size or other classes of the same pixels are what a warm-up is for
    taller = painted.preprocess.model_copy(update={"height": 32})
    assert warm(build(painted), made, painted.model_copy(update={"preprocess": taller}), path) is not None


def test_peers_place_a_network_channels_last(recipe: Recipe) -> None:
    net = Peers(0, 1, torch.device("cpu")).place(build(recipe))
    wide = next(p for p in net.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1)
    assert wide.is_contiguous(memory_format=torch.channels_last)
