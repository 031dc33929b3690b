# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""job.json: what to open, what its golden masks are and how long to time. Written by edge_unet/pipeline/remote.py."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import RunnerError

SCHEMA = 1


@dataclass(frozen=True)
class Tensor:
    """core.spec.TensorSpec."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True)
class Golden:
    """One frame as the input takes it, and the (H, W) class ids that the reference gives for it: .npy files."""

    feed: Path
    mask: Path


@dataclass(frozen=True)
class Subject:
    """One artifact. `label` is followed by the precision that runs. `optional` ones are left out with a reason where
    the device cannot open them.

    `gates`: precision -> smallest share of golden pixels that must agree; None is reported and not gated.
    `pictures` is a folder of golden PNGs for engines that are built and checked by their own kit.
    """

    label: str
    engine: str
    artifact: Path
    sha256: str
    precision: str
    input: Tensor
    output: Tensor
    gates: dict[str, float | None]
    golden: tuple[Golden, ...] = ()
    pictures: Path | None = None
    optional: bool = False


@dataclass(frozen=True)
class Schedule:
    """core.report.Schedule."""

    warmup_runs: int = 10
    warmup_ns: int = 1_000_000_000
    runs: int = 1024
    limit_ns: int = 60_000_000_000
    burst: int = 5
    discarded: int = 1


@dataclass(frozen=True)
class Job:
    """All that one run does."""

    subjects: tuple[Subject, ...]
    schedule: Schedule
    threads: int = 1
    energy_seconds: float = 2.0


def read_job(path: Path) -> Job:
    """Read job.json; paths in it are relative to its folder. Raises RunnerError where it is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise ValueError(f"schema expected {SCHEMA}, received {values['schema']}")
        subjects = tuple(_subject(entry, path.parent) for entry in values["subjects"])
        return Job(subjects, Schedule(**values["schedule"]), values["threads"], values["energy_seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunnerError(f"job.json is damaged ({type(error).__name__}: {error}); run it again") from error


def _subject(entry: dict[str, Any], folder: Path) -> Subject:
    golden = tuple(Golden(folder / g["feed"], folder / g["mask"]) for g in entry["golden"])
    pictures = folder / entry["pictures"] if entry["pictures"] else None
    return Subject(
        label=entry["label"],
        engine=entry["engine"],
        artifact=folder / entry["artifact"],
        sha256=entry["sha256"],
        precision=entry["precision"],
        input=_tensor(entry["input"]),
        output=_tensor(entry["output"]),
        gates=dict(entry["gates"]),
        golden=golden,
        pictures=pictures,
        optional=entry["optional"],
    )


def _tensor(entry: dict[str, Any]) -> Tensor:
    return Tensor(**{**entry, "shape": tuple(entry["shape"])})


def sha256_of(path: Path) -> str:
    """core.files.sha256_of: of a file, or of a folder's sorted relative names and contents."""
    digest = hashlib.sha256()
    if not path.is_dir():
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
        return digest.hexdigest()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + sha256_of(file).encode())
    return digest.hexdigest()


def write_json(path: Path, value: object) -> None:
    """Write JSON whole or not at all."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(value, sort_keys=True) + "\n", encoding="utf-8")
    temporary.replace(path)
