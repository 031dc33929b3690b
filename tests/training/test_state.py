from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.recipe import Recipe, TrainSpec
from edge_unet.training.state import (
    Phase,
    Position,
    TrainingState,
    check_same_training,
    load_state,
    only_training_in,
    save_state,
    state_path,
)


def position(recipe: Recipe, phase: Phase = "fp32") -> Position:
    return Position(
        phase=phase,
        recipe=recipe,
        data_sha256="d" * 64,
        epoch=2,
        step=3,
        loss_sum=0.1 + 0.2,
        best_score=None,
        metrics={"val_dice": 1 / 3},
        scaler={},
        parent_sha256=None,
    )


def test_round_trip_is_exact(tmp_path: Path, recipe: Recipe) -> None:
    tensors = {
        "net.a": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "net.counter": torch.tensor(2**40),
        "optimizer.0.step": torch.tensor(7.0),
        "net.unset": torch.tensor(float("nan")),
    }
    path = state_path(tmp_path, "fp32")
    save_state(path, TrainingState(position(recipe), tensors))
    loaded = load_state(path)
    assert loaded.position == position(recipe)
    for name, tensor in tensors.items():
        assert torch.equal(loaded.tensors[name].nan_to_num(-1), tensor.nan_to_num(-1))
    assert set(loaded.part("net")) == {"a", "counter", "unset"}
    assert set(loaded.part("optimizer")) == {"0.step"}


def test_damage_is_named(tmp_path: Path, recipe: Recipe) -> None:
    path = state_path(tmp_path, "fp32")
    save_state(path, TrainingState(position(recipe), {"net.a": torch.zeros(100)}))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(ArtifactError, match="damaged training state"):
        load_state(path)


def test_another_training_is_refused_and_says_why(tmp_path: Path, recipe: Recipe) -> None:
    path, sha = state_path(tmp_path, "fp32"), "d" * 64
    check_same_training(path, position(recipe), recipe, sha, None)
    other = recipe.model_copy(update={"train": TrainSpec(epochs=99), "seed": 8})
    with pytest.raises(UsageError, match=r"\[seed\] 3 -> 8; \[train\].*99"):
        check_same_training(path, position(recipe), other, sha, None)
    with pytest.raises(UsageError, match="training data dddddddddddd -> eeeeeeeeeeee"):
        check_same_training(path, position(recipe), recipe, "e" * 64, None)
    with pytest.raises(UsageError, match="initial checkpoint None -> abc"):
        check_same_training(path, position(recipe), recipe, sha, "abc")


def test_the_other_phases_settings_may_change(tmp_path: Path, recipe: Recipe) -> None:
    path, sha = state_path(tmp_path, "fp32"), "d" * 64
    qat = recipe.quantize.model_copy(update={"percentile": 99.0})
    changed = recipe.model_copy(update={"quantize": qat})
    check_same_training(path, position(recipe), changed, sha, None)
    with pytest.raises(UsageError, match=r"\[quantize\]"):
        check_same_training(path, position(recipe, "qat"), changed, sha, None)


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_one_training_per_folder(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; from edge_unet.training.state import only_training_in\n"
    script += "with only_training_in(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match="another process is training here"), only_training_in(tmp_path):
            pytest.fail("the lock was given twice")
        other.kill()
    with only_training_in(tmp_path):  # a killed process holds nothing
        assert (tmp_path / "state" / "lock").is_file()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="choose a writable --out"), only_training_in(tmp_path / "file"):
        pytest.fail("a file was taken for a folder")
