"""The written trace of a training: out/log.jsonl, one object per epoch, and TensorBoard where it is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edge_unet.core.files import write_text
from edge_unet.training.progress import EpochRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Appends one phase's epochs. Lines of epochs that a resume will repeat are dropped first."""

    def __init__(self, out: Path, phase: str, epochs_done: int) -> None:
        self.path = out / "log.jsonl"
        self._keep(phase, epochs_done)
        self._board = _tensorboard(out / "tensorboard" / phase, epochs_done)

    def write(self, record: EpochRecord) -> None:
        """Add one epoch, on disk when this returns."""
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(record.model_dump_json() + "\n")
        if self._board is not None:
            for key in ("loss", "learning_rate", "val_dice", "val_iou", "val_error"):
                value = getattr(record, key)
                if value is not None:
                    self._board.add_scalar(key, value, record.epoch)
            self._board.flush()

    def close(self) -> None:
        """Close the TensorBoard file."""
        if self._board is not None:
            self._board.close()

    def _keep(self, phase: str, epochs_done: int) -> None:
        """Rewrite the file without this phase's later epochs, and without a line that a kill cut short."""
        lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else []
        kept = [line for line in lines if _is_kept(line, phase, epochs_done)]
        write_text(self.path, "".join(line + "\n" for line in kept))


def _is_kept(line: str, phase: str, epochs_done: int) -> bool:
    """Whether a line is whole and not about to be written again."""
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        return False
    return bool(values.get("phase") != phase or values.get("epoch", 0) <= epochs_done)


def _tensorboard(folder: Path, epochs_done: int) -> SummaryWriter | None:
    """A writer that hides what a resume repeats; None where tensorboard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=epochs_done + 1)
