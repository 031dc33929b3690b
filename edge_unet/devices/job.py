"""The job folder that is pushed: artifacts, golden frames as arrays, job.json and the runner, under our own names."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import UsageError
from edge_unet.core.files import canonical_json
from edge_unet.core.spec import Precision, feed_from_pixels
from edge_unet.devices.pack import NAME, pack_runner
from edge_unet.devices.runner.job import SCHEMA
from edge_unet.frames import read_frame, read_mask

JOB, RESULT = "job.json", "result.json"
ENERGY_SECONDS = 2.0


@dataclass(frozen=True)
class JobSubject:
    """One bundle to run on a device. `gates`: precision -> smallest share of golden pixels, None: not gated.
    `optional`: left out with a reason where the device lacks its runtime. `precision` is the arithmetic."""

    bundle: Bundle
    engine: str
    precision: Precision
    gates: Mapping[str, float | None]
    optional: bool = False

    @property
    def name(self) -> str:
        """'kvasir cpu': the runner adds the precision."""
        return f"{self.bundle.manifest.name} {self.bundle.manifest.artifact.target}"

    @property
    def label(self) -> str:
        """'kvasir cpu int8': how the row is called."""
        return f"{self.name} {self.precision.value}"


def write_job(subjects: Sequence[JobSubject], schedule: Mapping[str, int], threads: int, folder: Path) -> None:
    """Fill an empty folder with all that the runner needs. Raises UsageError for a bundle without golden frames."""
    for name in ("artifacts", "arrays"):
        (folder / name).mkdir()
    entries = [_entry(subject, number, folder) for number, subject in enumerate(subjects)]
    job = {
        "schema": SCHEMA, "threads": threads, "energy_seconds": ENERGY_SECONDS, "schedule": dict(schedule),
        "subjects": entries,
    }  # fmt: skip
    (folder / JOB).write_text(canonical_json(job), encoding="utf-8")
    pack_runner(folder / NAME)


def _entry(subject: JobSubject, number: int, folder: Path) -> dict[str, Any]:
    """One subject of job.json, its files copied."""
    bundle, artifact = subject.bundle, subject.bundle.manifest.artifact
    place = f"artifacts/{number:02d}"
    copy = shutil.copytree if bundle.artifact.is_dir() else shutil.copyfile
    copy(bundle.artifact, folder / place)
    pictures = None
    if subject.engine == "tensorrt":
        pictures = f"{place}-golden"
        shutil.copytree(bundle.folder / "golden", folder / pictures)
    return {
        "label": subject.name,
        "engine": subject.engine,
        "artifact": place,
        "sha256": artifact.sha256,
        "precision": subject.precision.value,
        "input": artifact.inputs[0].model_dump(mode="json"),
        "output": artifact.outputs[0].model_dump(mode="json"),
        "gates": dict(subject.gates),
        "golden": _golden(bundle, folder),
        "pictures": pictures,
        "optional": subject.optional,
    }


def _golden(bundle: Bundle, folder: Path) -> list[dict[str, str]]:
    """The golden frames as the artifact's input takes them. Bundles with the same frames share files."""
    manifest = bundle.manifest
    if not manifest.golden:
        raise UsageError(f"{bundle.folder}: has no golden frames to check on the device; export the bundle again")
    found = []
    for golden in manifest.golden:
        frame = read_frame(bundle.folder / golden.frame, manifest.preprocess.color_order)
        feed = feed_from_pixels(frame[None], manifest.artifact.inputs[0], manifest.preprocess)
        mask = read_mask(bundle.folder / golden.mask)
        found.append({"feed": _save(feed, folder), "mask": _save(mask, folder)})
    return found


def _save(array: NDArray[Any], folder: Path) -> str:
    """Its path in the job, named by its content."""
    array = np.ascontiguousarray(array)
    digest = hashlib.sha256(f"{array.dtype}{array.shape}".encode() + array.tobytes()).hexdigest()[:16]
    path = folder / f"arrays/{digest}.npy"
    if not path.exists():
        np.save(path, array)
    return f"arrays/{path.name}"
