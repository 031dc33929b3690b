"""An interrupted training ends with the same bytes as one that was left alone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from edge_unet.core.recipe import Recipe
from edge_unet.data.datasets import Dataset
from edge_unet.training import TrainResult, train, train_both
from edge_unet.training import loop as loop_module
from edge_unet.training.progress import EpochRecord
from edge_unet.training.state import Phase, load_state, state_path

Data = tuple[Dataset, Dataset]


class PulledPlugError(Exception):
    """Stands for a kill."""


class StopsAt:
    """Breaks off after `steps` steps, or before the state of epoch `epoch` is saved."""

    def __init__(self, steps: int = -1, epoch: int = -1) -> None:
        self.left, self.at_epoch = steps, epoch

    def start(self, phase: str, total_steps: int, steps_done: int) -> None:
        self.steps_done = steps_done

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise PulledPlugError

    def epoch(self, record: EpochRecord) -> None:
        if record.epoch == self.at_epoch:
            raise PulledPlugError

    def stop(self) -> None:
        pass


def same_ending(a: Path, b: Path, phase: Phase) -> None:
    name = f"{phase}.safetensors"
    assert (a / name).read_bytes() == (b / name).read_bytes()
    left, right = load_state(state_path(a, phase)), load_state(state_path(b, phase))
    assert left.position == right.position
    assert left.tensors.keys() == right.tensors.keys()
    for key, tensor in left.tensors.items():
        assert torch.equal(tensor, right.tensors[key]), key


@pytest.fixture
def unbroken(tmp_path: Path, recipe: Recipe, squares: Data) -> TrainResult:
    return train(recipe, tmp_path / "unbroken", train_data=squares[0], val_data=squares[1])


@pytest.mark.parametrize(
    ("stops", "save_every_s", "goes_on_at"),
    [
        (StopsAt(steps=2), 300.0, 0),  # before anything was saved
        (StopsAt(steps=9), 300.0, 6),  # inside an epoch, state of the epoch before
        (StopsAt(steps=10), 0.0, 9),  # inside an epoch, state saved after every step
        (StopsAt(epoch=2), 300.0, 6),  # the checkpoint is written, the state is not
    ],
)
def test_fp32_resumes_to_the_same_bits(
    tmp_path: Path,
    recipe: Recipe,
    squares: Data,
    unbroken: TrainResult,
    stops: StopsAt,
    save_every_s: float,
    goes_on_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_module, "SAVE_EVERY_S", save_every_s)
    out, (train_data, val_data) = tmp_path / "broken", squares
    with pytest.raises(PulledPlugError):
        train(recipe, out, train_data=train_data, val_data=val_data, progress=stops)
    torch.manual_seed(999)  # nothing may depend on the global generator
    rest = StopsAt()
    result = train(recipe, out, train_data=train_data, val_data=val_data, resume=True, progress=rest)
    assert rest.steps_done == goes_on_at
    assert result.metrics == unbroken.metrics
    same_ending(out, tmp_path / "unbroken", "fp32")
    epochs = [line.count('"epoch"') for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert epochs == [1, 1, 1]


@pytest.mark.slow
def test_qat_resumes_to_the_same_bits(
    tmp_path: Path, recipe: Recipe, squares: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop_module, "SAVE_EVERY_S", 0.0)
    data = {"train_data": squares[0], "val_data": squares[1]}
    train_both(recipe, tmp_path / "unbroken", **data)
    with pytest.raises(PulledPlugError):
        train_both(recipe, tmp_path / "broken", progress=StopsAt(steps=18 + 3), **data)
    train_both(recipe, tmp_path / "broken", resume=True, **data)
    same_ending(tmp_path / "broken", tmp_path / "unbroken", "fp32")
    same_ending(tmp_path / "broken", tmp_path / "unbroken", "qat")


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from edge_unet.core.recipe import Recipe
from edge_unet.data.open import open_data
from edge_unet.training import loop, train
from edge_unet.training.progress import LineProgress

class Killed(LineProgress):
    left = int(sys.argv[3])
    def step(self):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
loop.SAVE_EVERY_S = 0.05
recipe = Recipe.model_validate_json(Path(sys.argv[1]).read_text())
data = {f"{split}_data": open_data(recipe, split) for split in ("train", "val")}
train(recipe, Path(sys.argv[2]), resume=True, progress=Killed(), **data)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_kill_9_and_resume_gives_the_same_bits(tmp_path: Path, recipe: Recipe) -> None:
    config = tmp_path / "recipe.json"
    config.write_text(recipe.model_dump_json(), encoding="utf-8")

    def run(out: str, kill_at: int) -> int:
        command = [sys.executable, "-c", SCRIPT, str(config), str(tmp_path / out), str(kill_at)]
        return subprocess.run(command, check=False, capture_output=True, timeout=300).returncode

    assert run("unbroken", -1) == 0
    for kill_at in (4, 9):
        assert run("broken", kill_at) == -signal.SIGKILL
    assert run("broken", -1) == 0
    same_ending(tmp_path / "broken", tmp_path / "unbroken", "fp32")
