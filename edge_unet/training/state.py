"""The state of an unfinished training: one safetensors file, whole or absent, with its numbers in the header."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.files import written_whole
from edge_unet.core.recipe import Recipe
from edge_unet.core.spec import Frozen

KEY = "edge_unet_training"

Phase = Literal["pretrain", "fp32", "qat"]


class Position(Frozen):
    """Where a training stands. Batches and random numbers follow from it (see batches.py), so no generator is kept."""

    schema_version: Literal[1] = 1
    phase: Phase
    recipe: Recipe
    data_sha256: str
    epoch: int
    """Epoch in progress, from 0; equal to the number of epochs when training is done."""
    step: int
    """Steps of that epoch already taken."""
    loss_sum: float
    """Over those steps."""
    best_score: float | None
    metrics: dict[str, float]
    """Of the kept checkpoint."""
    scaler: dict[str, float]
    parent_sha256: str | None
    teacher_sha256: str | None = None


@dataclass(frozen=True)
class TrainingState:
    """A position and its tensors: 'net.*', 'ema.*', 'adapter.*' (state dicts, the last where features are distilled)
    and 'optimizer.*'."""

    position: Position
    tensors: dict[str, Tensor]

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below `prefix`, without it."""
        start = prefix + "."
        return {name[len(start) :]: value for name, value in self.tensors.items() if name.startswith(start)}


def state_path(out: Path, phase: Phase) -> Path:
    """Where a phase keeps its state."""
    return out / "state" / f"{phase}.safetensors"


def saved_state(out: Path, phase: Phase, resume: bool) -> TrainingState | None:
    """The state to go on from. Raises UsageError where one stands in the way of a new training."""
    path = state_path(out, phase)
    if not path.is_file():
        return None
    if not resume:
        raise UsageError(f"{path}: {out} already holds a training; pass --resume to go on, or choose another --out")
    return load_state(path)


@contextmanager
def only_training_in(out: Path) -> Iterator[None]:
    """Hold `out` for this process: two trainings in one folder would overwrite each other's state.

    The lock goes with the process, however that ends. Raises UsageError where another process holds it.
    """
    path = out / "state" / "lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("w")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose a writable --out") from error
    with stream:
        if sys.platform != "win32":  # no flock there; the folder is then guarded by its user alone
            import fcntl

            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UsageError(
                    f"{out}: another process is training here; wait for it or choose another --out"
                ) from error
        yield


def save_state(path: Path, state: TrainingState) -> None:
    """Replace the state file in one step: a kill leaves the old or the new one."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    with written_whole(path) as temporary:
        save_file(tensors, temporary, {KEY: state.position.model_dump_json()})


def load_state(path: Path) -> TrainingState:
    """Read a state. Raises ArtifactError where it is damaged or written by something else."""
    try:
        with safe_open(path, framework="pt") as archive:
            header = archive.metadata() or {}
            tensors = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a dict
        return TrainingState(Position.model_validate_json(header[KEY]), tensors)
    except (SafetensorError, OSError, ValidationError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{path}: damaged training state ({reason}); delete it to start again") from error


_UNUSED: Mapping[Phase, set[str]] = {
    "pretrain": {"train", "quantize", "classes", "distill"},
    "fp32": {"pretrain", "quantize"},
    "qat": {"pretrain", "train"},
}
"""Sections of a recipe that do not shape a phase."""


def check_same_training(
    path: Path,
    position: Position,
    recipe: Recipe,
    data_sha256: str,
    parent: str | None,
    teacher: str | None = None,
) -> None:
    """Raise UsageError where `position` belongs to another recipe, other data, another FP32 checkpoint or teacher.

    What does not shape this phase may change while it is under way: the names on the label, the other phases.
    """
    unused = {"name", "licence"} | _UNUSED[position.phase]
    stored = position.recipe.model_dump(mode="json", exclude=unused)
    given = recipe.model_dump(mode="json", exclude=unused)
    changed = [f"[{key}] {stored[key]} -> {given[key]}" for key in given if stored[key] != given[key]]
    if position.data_sha256 != data_sha256:
        changed.append(f"training data {position.data_sha256[:12]} -> {data_sha256[:12]}")
    if position.parent_sha256 != parent:
        changed.append(f"initial checkpoint {position.parent_sha256} -> {parent}")
    if position.teacher_sha256 != teacher:
        changed.append(f"teacher {position.teacher_sha256} -> {teacher}")
    if changed:
        raise UsageError(
            f"{path}: cannot resume, this is another training: {'; '.join(changed)}; "
            "restore what changed or choose another --out"
        )
