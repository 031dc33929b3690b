from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from edge_unet.training.log import RunLog
from edge_unet.training.progress import EpochRecord


def record(phase: str, epoch: int, dice: float | None = None) -> EpochRecord:
    return EpochRecord(
        phase=phase,
        epoch=epoch,
        epochs=9,
        height=32,
        width=32,
        loss=1 / epoch,
        learning_rate=1e-3,
        seconds=1.5,
        val_dice=dice,
        val_iou=dice,
    )


def read(out: Path) -> list[tuple[str, int]]:
    lines = (out / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [(values["phase"], values["epoch"]) for values in map(json.loads, lines)]


def test_a_resume_repeats_no_line_and_drops_a_torn_one(tmp_path: Path) -> None:
    for phase, epochs in (("fp32", 4), ("qat", 2)):
        log = RunLog(tmp_path, phase, 0)
        for epoch in range(1, epochs + 1):
            log.write(record(phase, epoch))
        log.close()
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"phase": "fp32", "epo')
    log = RunLog(tmp_path, "fp32", 2)
    log.write(record("fp32", 3))
    log.close()
    assert read(tmp_path) == [("fp32", 1), ("fp32", 2), ("qat", 1), ("qat", 2), ("fp32", 3)]


def test_tensorboard_holds_the_scalars(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path, "fp32", 0)
    log.write(record("fp32", 1))
    log.write(record("fp32", 2, dice=0.75))
    log.close()
    board = EventAccumulator(str(tmp_path / "tensorboard" / "fp32"))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("loss")] == [(1, 1.0), (2, 0.5)]
    assert [(e.step, e.value) for e in board.Scalars("val_dice")] == [(2, 0.75)]


def test_tensorboard_is_optional(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    log = RunLog(tmp_path, "fp32", 0)
    log.write(record("fp32", 1))
    log.close()
    assert read(tmp_path) == [("fp32", 1)]
    assert not (tmp_path / "tensorboard").exists()
