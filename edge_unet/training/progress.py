"""What a person sees while training runs: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from edge_unet.core.spec import Frozen


class EpochRecord(Frozen):
    """One finished epoch, as shown and logged. `epoch` counts from 1; val_* are None where it was not validated."""

    phase: str
    epoch: int
    epochs: int
    height: int
    width: int
    loss: float
    learning_rate: float
    seconds: float
    """Wall time of the epoch's steps in this process; after a resume only of those it took itself."""
    val_dice: float | None = None
    val_iou: float | None = None
    val_error: float | None = None
    """Of a warm-up: see pretrain.py."""

    def line(self) -> str:
        """The record as one line of text."""
        scores = "".join(
            f"  {name} {value:.4f}"
            for name, value in (("val_dice", self.val_dice), ("val_iou", self.val_iou), ("val_error", self.val_error))
            if value is not None
        )
        return (
            f"{self.phase} epoch {self.epoch}/{self.epochs}  {self.height}x{self.width}  loss {self.loss:.4f}"
            f"  lr {self.learning_rate:.2e}  {self.seconds:.1f} s{scores}"
        )


class TrainProgress(Protocol):
    """What the training loop tells. `step` must be cheap; it is called after every batch."""

    def start(self, phase: str, total_steps: int, steps_done: int) -> None:
        """A phase begins, or goes on at `steps_done`."""

    def step(self) -> None:
        """One more step is done."""

    def epoch(self, record: EpochRecord) -> None:
        """One more epoch is done."""

    def stop(self) -> None:
        """The phase is over or broke off."""


class NoProgress:
    """Nothing: one of many trainings, or a process that does not lead."""

    def start(self, phase: str, total_steps: int, steps_done: int) -> None:
        """Nothing."""

    def step(self) -> None:
        """Nothing."""

    def epoch(self, record: EpochRecord) -> None:
        """Nothing."""

    def stop(self) -> None:
        """Nothing."""


class LineProgress:
    """One plain line per epoch on standard error."""

    def start(self, phase: str, total_steps: int, steps_done: int) -> None:
        """Name the phase and where it starts."""
        print(f"{phase}: {total_steps} steps, {steps_done} already done", file=sys.stderr, flush=True)

    def step(self) -> None:
        """Nothing: a log file wants no line per step."""

    def epoch(self, record: EpochRecord) -> None:
        """Print the epoch."""
        print(record.line(), file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Nothing to close."""


class BarProgress:
    """A live bar with the time left and the last scores; the finished epochs scroll by above it."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = RichProgress(*columns, TimeRemainingColumn(), console=Console(stderr=True))
        self._task: TaskID | None = None

    def start(self, phase: str, total_steps: int, steps_done: int) -> None:
        """Show the bar."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(phase, total=total_steps, completed=steps_done)
        self._bar.start()

    def step(self) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.advance(self._task)

    def epoch(self, record: EpochRecord) -> None:
        """Print the epoch above the bar and its score on it."""
        self._bar.console.print(record.line(), highlight=False, soft_wrap=True)
        if self._task is not None and record.val_dice is not None:
            self._bar.update(self._task, description=f"{record.phase}  Dice {record.val_dice:.3f}")

    def stop(self) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()


def console_progress() -> TrainProgress:
    """A bar where standard error is a terminal, else plain lines."""
    return BarProgress() if sys.stderr.isatty() else LineProgress()
