"""A student and its teacher: the distances by hand, who may teach whom, and a training that resumes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import DistillSpec, LossSpec, ModelSpec, Recipe, TrainSpec
from edge_unet.core.spec import ClassSpec, PreprocessSpec
from edge_unet.data.datasets import Dataset
from edge_unet.models import build
from edge_unet.models.checkpoint import CheckpointInfo, load_checkpoint, save_checkpoint
from edge_unet.quantization.fake_quant import FakeQuant
from edge_unet.quantization.layers import QuantConv
from edge_unet.quantization.ptq import quantize_ptq
from edge_unet.quantization.restore import restore
from edge_unet.training import loop as loop_module
from edge_unet.training import train, train_both
from edge_unet.training.distill import Distillation, divergence, feature_distance, load_teacher
from edge_unet.training.losses import truth_of
from edge_unet.training.peers import Peers
from edge_unet.training.state import load_state, state_path
from edge_unet.training.taps import Tap, head_of

Data = tuple[Dataset, Dataset]
CPU = torch.device("cpu")
ALONE = Peers(0, 1, CPU)


def written(path: Path, recipe: Recipe, seed: int = 1) -> Path:
    """An FP32 checkpoint of random weights."""
    torch.manual_seed(seed)
    save_checkpoint(path, CheckpointInfo(kind="fp32", recipe=recipe), build(recipe).state_dict())
    return path


def short(recipe: Recipe, **distill: object) -> Recipe:
    """One epoch of each phase, with that [distill]."""
    train_spec = TrainSpec.model_validate({**recipe.train.model_dump(), "stages": (), "epochs": 1})
    return recipe.model_copy(update={"train": train_spec, "distill": DistillSpec.model_validate(distill)})


@pytest.fixture
def teacher_recipe(recipe: Recipe) -> Recipe:
    """Another network: UNet++ with three heads."""
    return recipe.model_copy(update={"model": ModelSpec(name="unetpp", base=8, depth=3, deep=True)})


class TestDivergence:
    @pytest.mark.parametrize("temperature", [1.0, 3.0])
    def test_binary_by_hand(self, temperature: float) -> None:
        student, teacher = [0.5, -2.0, 9.0], [1.5, 1.0, -9.0]
        target = torch.tensor([[[1, 0, 255]]])  # the third pixel is ignored
        expected = 0.0
        for s, t in zip(student[:2], teacher[:2], strict=True):
            p, q = (1 / (1 + math.exp(-z / temperature)) for z in (s, t))
            expected += (q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))) / 2
        got = divergence(
            torch.tensor(student).view(1, 1, 1, 3), torch.tensor(teacher).view(1, 1, 1, 3),
            truth_of(target, 255, 1), temperature,
        )  # fmt: skip
        assert float(got) == pytest.approx(temperature**2 * expected, rel=1e-5)

    def test_several_classes_are_torchs_kl(self) -> None:
        torch.manual_seed(0)
        student, teacher = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 6)
        truth = truth_of(torch.zeros(2, 5, 6, dtype=torch.int64), 255, 4)
        logs = [(z / 2).log_softmax(1).permute(0, 2, 3, 1).reshape(-1, 4) for z in (student, teacher)]
        expected = 4 * functional.kl_div(*logs, reduction="batchmean", log_target=True)
        assert float(divergence(student, teacher, truth, 2.0)) == pytest.approx(float(expected), rel=1e-5)
        assert float(divergence(teacher, teacher, truth, 2.0)) == pytest.approx(0, abs=1e-6)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_it_is_least_at_the_teachers_answer(self, channels: int) -> None:
        torch.manual_seed(0)
        teacher = torch.randn(1, channels, 4, 4)
        truth = truth_of(torch.zeros(1, 4, 4, dtype=torch.int64), 255, channels)
        student = teacher.clone().requires_grad_()
        loss = divergence(student, teacher, truth, 2.0)
        loss.backward()
        assert student.grad is not None
        assert student.grad.abs().max() < 1e-6
        assert float(divergence(student.detach() + torch.randn(1, channels, 4, 4), teacher, truth, 2.0)) > 0.01


class TestFeatures:
    def test_distances_by_hand(self) -> None:
        """Two places: one at right angles and ignored for a quarter, one alike but for its length."""
        a = torch.tensor([[1.0, 2.0], [0.0, 2.0]]).view(1, 2, 1, 2)
        b = torch.tensor([[0.0, 1.0], [3.0, 1.0]]).view(1, 2, 1, 2)
        known = torch.ones(1, 2, 4)
        known[0, 0, 0] = 0
        assert float(feature_distance(a, b, known, "cosine")) == pytest.approx(0.75 * 1 / 1.75, abs=1e-6)
        assert float(feature_distance(a, b, known, "l2")) == pytest.approx((0.75 * 5 + 1) / 1.75, rel=1e-6)

    def test_the_larger_map_is_averaged(self) -> None:
        large, small = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 4, 4)
        known = torch.ones(2, 16, 16)
        expected = float((functional.avg_pool2d(large, 2) - small).square().mean())
        assert float(feature_distance(large, small, known, "l2")) == pytest.approx(expected, rel=1e-5)
        assert float(feature_distance(small, large, known, "l2")) == pytest.approx(expected, rel=1e-5)

    def test_taps_read_what_the_deepest_head_reads(self, recipe: Recipe, teacher_recipe: Recipe) -> None:
        for spec, channels in ((recipe, 8), (teacher_recipe, 8)):
            net = build(spec).eval()
            head = head_of(net, 1)
            assert isinstance(head, nn.Conv2d)
            assert (head.weight.shape[0], head.weight.shape[1]) == (1, channels)
            tap = Tap(head)
            outputs = net(torch.rand(1, 3, 32, 32))
            deepest = outputs if isinstance(outputs, torch.Tensor) else outputs[-2]
            logits = functional.conv2d(tap.take(), head.weight, head.bias).clamp(-127 / 16, 127 / 16)
            resized = functional.interpolate(logits, deepest.shape[2:], mode="bilinear")
            torch.testing.assert_close(resized, deepest)
            with pytest.raises(RuntimeError, match="no forward pass"):
                tap.take()

    def test_a_quantized_network_has_a_head_too(self, recipe: Recipe, squares: Data, tmp_path: Path) -> None:
        from edge_unet.data.cache import load_resized

        frames, _ = load_resized(squares[0], recipe.preprocess)
        net, _ = quantize_ptq(load_checkpoint(written(tmp_path / "a.safetensors", recipe)), frames, recipe.quantize)
        assert isinstance(head_of(net, 1), QuantConv)

    def test_without_a_convolution_at_the_end_there_are_none(self) -> None:
        with pytest.raises(UsageError, match=r"set distill\.features to 0"):
            head_of(nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU()), 1)


class TestWhoMayTeach:
    def test_a_deep_network_answers_with_its_deepest_head(
        self, recipe: Recipe, teacher_recipe: Recipe, tmp_path: Path
    ) -> None:
        path = written(tmp_path / "t.safetensors", teacher_recipe)
        exact = recipe.train.model_copy(update={"amp": "off"})
        teacher = load_teacher(path, recipe, exact, CPU)
        Distillation(teacher, build(recipe), recipe, ALONE)
        x = torch.rand(2, 3, 32, 32)
        heads = restore(load_checkpoint(path))(x)
        answer = teacher(x)
        torch.testing.assert_close(answer, heads[2], atol=1e-4, rtol=1e-4)
        assert not answer.requires_grad
        assert not any(p.requires_grad for p in teacher.net.parameters())
        assert teacher.sha256 == load_checkpoint(path).sha256

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"classes": ClassSpec(names=("a", "b"), palette=((0, 0, 0), (9, 9, 9)))}, "its classes.names is"),
            ({"preprocess": PreprocessSpec(height=64, width=64, color_order="BGR")}, "its preprocess.color_order"),
            ({"model": ModelSpec(name="unet", base=8, depth=4)}, "multiples of 16, the student trains at 24x24"),
        ],
    )  # fmt: skip
    def test_others_are_refused(self, recipe: Recipe, tmp_path: Path, change: dict[str, object], message: str) -> None:
        path = written(tmp_path / "t.safetensors", recipe.model_copy(update=change))
        sized = TrainSpec.model_validate({**recipe.train.model_dump(), "stages": ((24, 1), (64, 2)), "epochs": 3})
        with pytest.raises(UsageError, match=message):
            load_teacher(path, recipe, sized, CPU)

    def test_a_size_that_breaks_it_is_refused(
        self, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class OneSize(nn.Conv2d):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return super().forward(x).view(len(x), 1, 64, 64)

        monkeypatch.setattr("edge_unet.training.distill.restore", lambda _: OneSize(3, 1, 1))
        path = written(tmp_path / "t.safetensors", recipe)
        with pytest.raises(UsageError, match="does not take 32x32, a training size of the student"):
            load_teacher(path, recipe, recipe.train, CPU)


@pytest.mark.parametrize("kind", ["cosine", "l2"])
def test_every_head_of_the_student_learns(recipe: Recipe, teacher_recipe: Recipe, tmp_path: Path, kind: str) -> None:
    """From the teacher alone: gradients reach each head, the adapter and no weight of the teacher."""
    spec = DistillSpec.model_validate({"logits": 1.0, "features": 0.5, "feature_loss": kind})
    student_recipe = teacher_recipe.model_copy(update={"distill": spec})
    teacher = load_teacher(written(tmp_path / "t.safetensors", recipe), student_recipe, recipe.train, CPU)
    net = build(student_recipe).train()
    distillation = Distillation(teacher, net, student_recipe, ALONE)
    x, target = torch.rand(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.int64)
    distillation(x, net(x), truth_of(target, 255, 1)).backward()
    assert all(conv.weight.grad.abs().sum() > 0 for conv in net.heads.convs)  # type: ignore[union-attr]
    assert distillation.adapter is not None
    (weight,) = distillation.adapter.parameters()
    assert weight.shape == (8, 8, 1, 1)
    assert weight.grad is not None
    assert weight.grad.any()
    assert all(p.grad is None for p in teacher.net.parameters())


@pytest.mark.slow
def test_a_student_is_drawn_to_its_teacher(
    tmp_path: Path, recipe: Recipe, teacher_recipe: Recipe, squares: Data
) -> None:
    """Masks count for nothing here, and yet the student ends near the teacher."""
    data = {"train_data": squares[0], "val_data": squares[1]}
    recipe = recipe.model_copy(update={"train": TrainSpec(epochs=5, batch=8, learning_rate=1e-2, ema_decay=0.5)})
    taught = recipe.model_copy(
        update={
            "distill": DistillSpec(logits=1.0),
            "loss": LossSpec.model_validate({"terms": {"ce": 1e-6}}),
        }
    )
    teacher = train(teacher_recipe.model_copy(update={"train": recipe.train}), tmp_path / "t", **data)
    assert teacher.metrics["val_dice"] > 0.8
    alone = train(taught, tmp_path / "alone", **data)
    result = train(taught, tmp_path / "s", teacher=teacher.checkpoint, **data)
    assert result.metrics["val_dice"] > 0.6
    assert load_checkpoint(result.checkpoint).info.teacher_sha256 == load_checkpoint(teacher.checkpoint).sha256
    assert load_checkpoint(alone.checkpoint).info.teacher_sha256 is None


def test_fp32_and_qat_from_a_quantized_teacher(tmp_path: Path, recipe: Recipe, squares: Data) -> None:
    from edge_unet.data.cache import load_resized

    data = {"train_data": squares[0], "val_data": squares[1]}
    frames, _ = load_resized(squares[0], recipe.preprocess)
    net, info = quantize_ptq(load_checkpoint(written(tmp_path / "a.safetensors", recipe)), frames, recipe.quantize)
    save_checkpoint(tmp_path / "ptq.safetensors", info, net.state_dict())
    sha256 = load_checkpoint(tmp_path / "ptq.safetensors").sha256
    both = train_both(short(recipe, features=0.3), tmp_path / "s", teacher=tmp_path / "ptq.safetensors", **data)
    for result in both:
        checkpoint = load_checkpoint(result.checkpoint)
        assert checkpoint.info.teacher_sha256 == sha256
        assert not any("adapter" in name for name in checkpoint.state)
        restore(checkpoint)
        state = load_state(state_path(tmp_path / "s", checkpoint.info.kind))  # type: ignore[arg-type]
        assert state.position.teacher_sha256 == sha256
        assert set(state.part("adapter")) == {"weight"}
    gains = [m.gain for m in restore(load_checkpoint(both[1].checkpoint)).modules() if isinstance(m, FakeQuant)]
    assert gains


class PulledPlugError(Exception):
    """Stands for a kill."""


class Stops:
    """Breaks off after `steps` steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def start(self, phase: str, total_steps: int, steps_done: int) -> None: ...
    def epoch(self, record: object) -> None: ...
    def stop(self) -> None: ...
    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise PulledPlugError


def test_resume_gives_the_same_bits_and_wants_the_same_teacher(
    tmp_path: Path, recipe: Recipe, teacher_recipe: Recipe, squares: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "SAVE_EVERY_S", 0.0)
    teacher = written(tmp_path / "t.safetensors", teacher_recipe)
    recipe = short(recipe, features=1.0)
    data = {"train_data": squares[0], "val_data": squares[1], "teacher": teacher}
    train(recipe, tmp_path / "unbroken", **data)
    with pytest.raises(PulledPlugError):
        train(recipe, tmp_path / "broken", progress=Stops(4), **data)
    other = written(tmp_path / "u.safetensors", teacher_recipe, seed=2)
    for wrong in (other, None):
        with pytest.raises(UsageError, match=r"this is another training: teacher [0-9a-f]{64} -> "):
            train(recipe, tmp_path / "broken", resume=True, **{**data, "teacher": wrong})
    torch.manual_seed(77)
    train(recipe, tmp_path / "broken", resume=True, **data)
    ends = [load_state(state_path(tmp_path / name, "fp32")) for name in ("unbroken", "broken")]
    assert ends[0].position == ends[1].position
    assert ends[0].tensors.keys() == ends[1].tensors.keys()
    for name, tensor in ends[0].tensors.items():
        assert torch.equal(tensor, ends[1].tensors[name]), name
    fresh = Distillation(load_teacher(teacher, recipe, recipe.train, CPU), build(recipe), recipe, ALONE)
    assert fresh.adapter is not None
    assert not torch.equal(ends[0].part("adapter")["weight"], fresh.adapter.state_dict()["weight"])  # it did learn
