from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edge_unet.core.errors import DataError, EdgeUnetError, UsageError
from edge_unet.core.recipe import Recipe, TrainSpec
from edge_unet.data.cache import load_resized
from edge_unet.data.datasets import Dataset
from edge_unet.models.checkpoint import load_checkpoint
from edge_unet.quantization.fake_quant import FakeQuant
from edge_unet.quantization.restore import restore
from edge_unet.training import loop as loop_module
from edge_unet.training import objective as objective_module
from edge_unet.training import train, train_both
from edge_unet.training.evaluate import evaluate
from edge_unet.training.loop import START_MARGIN

Data = tuple[Dataset, Dataset]


def with_train(recipe: Recipe, **changes: object) -> Recipe:
    return recipe.model_copy(update={"train": TrainSpec.model_validate({**recipe.train.model_dump(), **changes})})


def score(checkpoint: Path, data: Dataset, recipe: Recipe) -> dict[str, float]:
    frames, masks = (torch.from_numpy(a) for a in load_resized(data, recipe.preprocess))
    return evaluate(restore(load_checkpoint(checkpoint)), frames, masks, recipe)


@pytest.mark.slow
def test_both_phases_learn_and_write_what_they_measured(tmp_path: Path, recipe: Recipe, squares: Data) -> None:
    recipe = with_train(recipe, stages=((32, 2), (64, 4)), epochs=6)
    fp32, qat = train_both(recipe, tmp_path, train_data=squares[0], val_data=squares[1])
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    losses = [line["loss"] for line in log if line["phase"] == "fp32"]
    assert losses[-1] < 0.7 * losses[0]
    assert fp32.metrics["val_dice"] > 0.7
    assert qat.metrics["val_dice"] > fp32.metrics["val_dice"] - 0.05
    for result, kind in ((fp32, "fp32"), (qat, "qat")):
        info = load_checkpoint(result.checkpoint).info
        assert (info.kind, info.recipe, info.metrics) == (kind, recipe, result.metrics)
        measured = score(result.checkpoint, squares[1], recipe)
        assert measured["val_dice"] == pytest.approx(result.metrics["val_dice"], abs=1e-6)
        assert info.data_sha256 == squares[0].sha256
    parent, child = load_checkpoint(fp32.checkpoint), load_checkpoint(qat.checkpoint)
    assert child.info.parent_sha256 == parent.sha256
    assert child.info.calibration_sha256 is not None
    assert [(line["height"], line["width"]) for line in log[:3]] == [(32, 32), (32, 32), (64, 64)]


def test_qat_keeps_the_calibrated_network_unless_training_beats_it(
    tmp_path: Path, recipe: Recipe, squares: Data
) -> None:
    recipe = with_train(recipe, stages=(), epochs=5)
    fp32 = train(recipe, tmp_path, train_data=squares[0], val_data=squares[1])
    assert fp32.metrics["val_dice"] > 0.7
    ruinous = recipe.quantize.model_copy(update={"qat": TrainSpec(epochs=1, batch=8, learning_rate=3.0, ema_decay=0.0)})
    recipe = recipe.model_copy(update={"quantize": ruinous})
    data = {"train_data": squares[0], "val_data": squares[1]}
    qat = train(recipe, tmp_path, phase="qat", init=fp32.checkpoint, **data)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert log[-1]["val_dice"] < qat.metrics["val_dice"]  # training did ruin it
    assert qat.metrics["epoch"] == 0
    assert load_checkpoint(qat.checkpoint).info.kind == "qat"
    gains = [m.gain for m in restore(load_checkpoint(qat.checkpoint)).modules() if isinstance(m, FakeQuant)]
    assert all(torch.equal(gain, torch.ones_like(gain)) for gain in gains)


def test_qat_learns_scales_without_decaying_them(tmp_path: Path, recipe: Recipe, squares: Data) -> None:
    fp32 = train(with_train(recipe, stages=(), epochs=1), tmp_path, train_data=squares[0], val_data=squares[1])
    seen: dict[str, torch.Tensor] = {}

    class Watched(loop_module.Loop):
        def run(self) -> loop_module.TrainResult:
            result = super().run()
            seen.update(self.net.state_dict())
            return result

    recipe = with_train(recipe, stages=(), epochs=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge_unet.training.phases.Loop", Watched)
        train(recipe, tmp_path, train_data=squares[0], val_data=squares[1], phase="qat", init=fp32.checkpoint)
    gains = torch.cat([value.flatten() for name, value in seen.items() if name.endswith("gain")])
    moved = (gains != 1).float().mean()
    assert moved > 0.5
    assert (gains - 1).abs().max() < 0.2  # 6 steps of at most 1e-3 each, and room


def test_several_classes_with_an_ignore_value(tmp_path: Path, recipe: Recipe, squares3: Data) -> None:
    recipe = with_train(recipe.model_copy(update={"classes": squares3[0].classes}), stages=(), epochs=5)
    result = train(recipe, tmp_path, train_data=squares3[0], val_data=squares3[1])
    assert result.metrics["val_iou"] > 0.6
    assert score(result.checkpoint, squares3[1], recipe)["val_iou"] == pytest.approx(result.metrics["val_iou"])


@pytest.mark.slow
def test_camvid_trains(tmp_path: Path, recipe: Recipe, shared_data: Path) -> None:
    from edge_unet.core.recipe import DataSpec
    from edge_unet.core.spec import ClassSpec
    from edge_unet.data.open import open_data

    lines = (shared_data / "camvid" / "classes.txt").read_text(encoding="utf-8").splitlines()
    names = tuple(line.split()[1] for line in lines[:11])  # the twelfth is void, to be ignored
    classes = ClassSpec(names=names, palette=tuple((20 * i, 0, 0) for i in range(11)), ignore_value=11)
    recipe = with_train(recipe, stages=(), epochs=1).model_copy(
        update={"classes": classes, "data": DataSpec(train=("camvid",), val=("camvid",))}
    )
    parts = [open_data(recipe, split, shared_data) for split in ("train", "val")]
    result = train(recipe, tmp_path, train_data=parts[0], val_data=parts[1])
    assert 0.05 < result.metrics["val_iou"] < 1


def test_fine_tuning_starts_from_the_given_weights(tmp_path: Path, recipe: Recipe, squares: Data) -> None:
    data = {"train_data": squares[0], "val_data": squares[1]}
    first = train(with_train(recipe, stages=(), epochs=4), tmp_path / "a", **data)
    gentle = with_train(recipe, stages=(), epochs=1, learning_rate=1e-6)
    tuned = train(gentle, tmp_path / "b", init=first.checkpoint, **data)
    assert tuned.metrics["val_dice"] == pytest.approx(first.metrics["val_dice"], abs=0.1)
    assert load_checkpoint(tuned.checkpoint).info.parent_sha256 == load_checkpoint(first.checkpoint).sha256


def test_a_folder_in_use_wants_resume(tmp_path: Path, recipe: Recipe, squares: Data) -> None:
    data = {"train_data": squares[0], "val_data": squares[1]}
    short = with_train(recipe, stages=(), epochs=1)
    first = train(short, tmp_path, **data)
    with pytest.raises(UsageError, match="already holds a training; pass --resume"):
        train(short, tmp_path, **data)
    before = first.checkpoint.read_bytes()
    again = train(short, tmp_path, resume=True, **data)  # finished: nothing is done again
    assert again == first
    assert first.checkpoint.read_bytes() == before
    with pytest.raises(UsageError, match="cannot resume, this is another training"):
        train(with_train(recipe, stages=(), epochs=2), tmp_path, resume=True, **data)


def test_a_wrong_start_is_refused(tmp_path: Path, recipe: Recipe, squares: Data) -> None:
    data = {"train_data": squares[0], "val_data": squares[1]}
    recipe = with_train(recipe, stages=(), epochs=1)
    with pytest.raises(UsageError, match="needs the fp32 checkpoint"):
        train(recipe, tmp_path / "a", phase="qat", **data)
    fp32, qat = train_both(recipe, tmp_path / "b", **data)
    with pytest.raises(UsageError, match="a qat checkpoint; fp32 training starts from an fp32 one"):
        train(recipe, tmp_path / "c", phase="fp32", init=qat.checkpoint, **data)
    wider = recipe.model_copy(update={"model": recipe.model.model_copy(update={"width": 0.5})})
    with pytest.raises(UsageError, match=r"its \[model\]"):
        train(wider, tmp_path / "d", phase="qat", init=fp32.checkpoint, **data)


def test_qat_goes_on_from_a_quantized_checkpoint(tmp_path: Path, recipe: Recipe, squares: Data) -> None:
    data = {"train_data": squares[0], "val_data": squares[1]}
    recipe = with_train(recipe, stages=(), epochs=1)
    _, first = train_both(recipe, tmp_path / "a", **data)
    second = train(recipe, tmp_path / "b", phase="qat", init=first.checkpoint, **data)
    before, after = load_checkpoint(first.checkpoint), load_checkpoint(second.checkpoint)
    assert after.info.parent_sha256 == before.sha256
    assert after.info.calibration_sha256 == before.info.calibration_sha256
    assert second.metrics["val_dice"] >= first.metrics["val_dice"] - START_MARGIN, "QAT may not harm"


def test_data_that_does_not_fit_is_refused(tmp_path: Path, recipe: Recipe, squares: Data, squares3: Data) -> None:
    with pytest.raises(DataError, match="differ from the recipe's"):
        train(recipe, tmp_path, train_data=squares[0], val_data=squares3[1])
    empty = type(squares[0])(recipe.classes, 0, 0)  # type: ignore[call-arg]
    with pytest.raises(DataError, match="no images"):
        train(recipe, tmp_path, train_data=empty, val_data=squares[1])


def test_divergence_stops_and_leaves_no_state(
    tmp_path: Path, recipe: Recipe, squares: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective_module, "training_loss", lambda logits, *_: logits.sum() * float("nan"))
    with pytest.raises(EdgeUnetError, match="diverged: the loss is nan in epoch 1"):
        train(recipe, tmp_path, train_data=squares[0], val_data=squares[1])
    assert not (tmp_path / "state" / "fp32.safetensors").exists()


def test_bf16_autocast_trains(tmp_path: Path, recipe: Recipe, squares: Data) -> None:
    recipe = with_train(recipe, stages=(), epochs=1, amp="bf16")
    result = train(recipe, tmp_path, train_data=squares[0], val_data=squares[1])
    state = load_checkpoint(result.checkpoint).state
    assert {t.dtype for t in state.values() if t.is_floating_point()} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("amp", ["auto", "fp16"])
def test_cuda_trains_and_resumes(tmp_path: Path, recipe: Recipe, squares: Data, amp: str) -> None:
    recipe = with_train(recipe, amp=amp)
    result = train(recipe, tmp_path, train_data=squares[0], val_data=squares[1], device=torch.device("cuda", 0))
    again = train(
        recipe, tmp_path, train_data=squares[0], val_data=squares[1], device=torch.device("cuda", 0), resume=True
    )
    assert again == result
