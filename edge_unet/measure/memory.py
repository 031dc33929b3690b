"""Peak memory of one artifact: the high-water mark of a fresh process that loads and runs it and nothing else.

VmHWM and not getrusage: ru_maxrss of a child starts at what its parent occupied when it forked.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import ArtifactError
from edge_unet.core.protocols import Runtime

_STATUS = Path("/proc/self/status")
_ANSWER = "peak_rss_bytes="


@dataclass(frozen=True)
class _Job:
    """What the child needs; the runtime travels by its importable name."""

    runtime: Runtime
    folder: Path
    artifact_json: str
    threads: int
    bf16: bool
    runs: int


def peak_rss_bytes(
    runtime: Runtime, folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False, runs: int = 5
) -> int | None:
    """Bytes at the peak, Python and the runtime's libraries included; None where the kernel does not tell.

    `runtime` must be importable by name (a module-level function or a partial of one). Raises ArtifactError where the
    child fails, with its last line.
    """
    if not _STATUS.is_file():
        return None
    job = _Job(runtime, folder.resolve(), artifact.model_dump_json(), threads, bf16, runs)
    done = subprocess.run(
        [sys.executable, "-m", "edge_unet.measure.memory"],
        input=pickle.dumps(job),
        capture_output=True,
        env=_environment(os.environ),
        check=False,
    )
    answers = [line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith(_ANSWER)]
    if done.returncode != 0 or not answers:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise ArtifactError(f"{folder / artifact.path}: the process that measures memory failed: {last[0]}")
    return int(answers[-1].removeprefix(_ANSWER))


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The child finds the same modules, wherever this process found them."""
    return {**inherited, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def _high_water_bytes() -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no VmHWM line")


def main() -> None:
    """The child: read a job from stdin, run it, answer with its own high-water mark."""
    job: _Job = pickle.load(sys.stdin.buffer)
    artifact = Artifact.model_validate_json(job.artifact_json)
    with job.runtime(job.folder, artifact, threads=job.threads, bf16=job.bf16) as session:
        feeds = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in artifact.inputs}
        for _ in range(job.runs):
            session.infer(feeds)
        sys.stdout.write(f"{_ANSWER}{_high_water_bytes()}\n")


if __name__ == "__main__":
    main()
