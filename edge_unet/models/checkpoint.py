"""Checkpoints: safetensors weights with the recipe that made them in the header. Nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edge_unet.core.errors import ArtifactError, UsageError, in_words
from edge_unet.core.files import sha256_of, written_whole
from edge_unet.core.recipe import Recipe
from edge_unet.core.spec import Frozen

KEY = "edge_unet"


class CheckpointInfo(Frozen):
    """The header of a checkpoint. `kind`: pretrain = what a training may start from, no segmenter yet; fp32 = float
    network with BN; ptq, qat = BN-folded network with scales."""

    schema_version: Literal[1] = 1
    kind: Literal["pretrain", "fp32", "ptq", "qat"]
    recipe: Recipe
    metrics: Mapping[str, float] = Field(default_factory=dict)
    """What was measured when it was written, for example {'val_dice': 0.79}."""
    data_sha256: str | None = None
    """Hash over the training files, from the dataset's manifest."""
    calibration_sha256: str | None = None
    parent_sha256: str | None = None
    teacher_sha256: str | None = None
    """Of the checkpoint it was distilled from."""
    class_weights: tuple[float, ...] | None = None
    """What the recipe's loss.class_weights came to on the training masks."""
    versions: Mapping[str, str] = Field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory; `sha256` is that of the file it came from."""

    info: CheckpointInfo
    state: dict[str, Tensor]
    sha256: str


def save_checkpoint(path: Path, info: CheckpointInfo, state: dict[str, Tensor]) -> str:
    """Write whole or not at all; returns the file's sha256."""
    header = {KEY: json.dumps(info.model_dump(mode="json"), sort_keys=True)}
    with written_whole(path) as temporary:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, temporary, header)
        temporary.chmod(0o644)  # safetensors writes for the owner alone
    return sha256_of(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises UsageError where there is no file, ArtifactError where it is damaged or not ours."""
    if not path.is_file():
        raise UsageError(f"{path}: no such checkpoint; expected a .safetensors file written by edge-unet train")
    try:
        with safe_open(path, framework="pt") as archive:
            header = archive.metadata() or {}
            state = {name: archive.get_tensor(name) for name in archive.keys()}  # noqa: SIM118 - not a dict
        info = CheckpointInfo.model_validate_json(header[KEY])
    except KeyError as error:
        raise ArtifactError(f"{path}: no {KEY!r} entry in the header; it was not written by edge-unet") from error
    except (SafetensorError, OSError, ValidationError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else str(error).splitlines()[0]
        raise ArtifactError(f"{path}: damaged checkpoint ({reason}); restore it or train again") from error
    return Checkpoint(info, state, sha256_of(path))
