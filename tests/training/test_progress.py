from __future__ import annotations

import sys

import pytest

from edge_unet.training.progress import BarProgress, EpochRecord, LineProgress, TrainProgress, console_progress

RECORD = EpochRecord(
    phase="fp32",
    epoch=2,
    epochs=9,
    height=64,
    width=96,
    loss=0.5,
    learning_rate=1e-3,
    seconds=1.25,
    val_dice=0.8125,
    val_iou=0.7,
)


def show(progress: TrainProgress) -> None:
    progress.start("fp32", 4, 1)
    progress.step()
    progress.epoch(RECORD)
    progress.step()
    progress.stop()


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    progress = console_progress()
    assert isinstance(progress, LineProgress)
    show(progress)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "fp32: 4 steps, 1 already done",
        "fp32 epoch 2/9  64x96  loss 0.5000  lr 1.00e-03  1.2 s  val_dice 0.8125  val_iou 0.7000",
    ]


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    progress = console_progress()
    assert isinstance(progress, BarProgress)
    show(progress)
    show(progress)  # a second phase uses the same bar
    err = capsys.readouterr().err
    assert "3/4" in err
    assert "val_dice 0.8125" in err
    assert "Dice 0.812" in err
