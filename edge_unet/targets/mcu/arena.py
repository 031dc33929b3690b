"""How small TFLite Micro's arena can be, tried in a process of its own.

In an arena that is too small its native code usually says so, and sometimes is killed by a segmentation fault. A size
at which the child dies is one that does not fit; the search goes on in another child.

    python -m edge_unet.targets.mcu.arena MODEL LOW HIGH     sizes in steps of 1 KiB; what is tried, and its outcome
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import edge_unet
from edge_unet.core.errors import ArtifactError
from edge_unet.targets.mcu.micro import PLENTY, STEP, start

FITS, SMALL = "fits", "small"


def smallest_arena_bytes(model: bytes) -> int:
    """The smallest arena, in steps of 1 KiB, in which the model's tensors can be allocated.

    A microcontroller needs less: its pointers have 32 bits, and this build records every allocation besides. Raises
    ArtifactError where the model cannot run at all.
    """
    start(model)
    low, high = 0, PLENTY // STEP
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        path = Path(room) / "model.tflite"
        path.write_bytes(model)
        while high - low > 1:
            low, high = _narrowed(path, low, high)
    return high * STEP


def _narrowed(path: Path, low: int, high: int) -> tuple[int, int]:
    """The bounds after one child: both in place, or up to the size that killed it."""
    command = [sys.executable, "-m", __name__, str(path), str(low), str(high)]
    parent = str(Path(edge_unet.__file__).resolve().parent.parent)
    search = os.pathsep.join(filter(None, (parent, os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": search}
    )
    return bounds_after(done.stdout, low, high, done.returncode, done.stderr)


def bounds_after(said: str, low: int, high: int, returncode: int, errors: str = "") -> tuple[int, int]:
    """The bounds that a child's words leave: 'SIZE', then 'fits' or 'small', line by line. A size without an answer is
    too small where a signal ended the child. Raises ArtifactError where it ended otherwise."""
    tried: int | None = None
    for word in said.split():
        if word == FITS and tried is not None:
            high, tried = tried, None
        elif word == SMALL and tried is not None:
            low, tried = tried, None
        else:
            tried = int(word)
    if tried is not None and returncode < 0:
        return tried, high
    if returncode:
        last = errors.strip().splitlines()[-1] if errors.strip() else "no words"
        raise ArtifactError(f"the search for TFLite Micro's smallest arena ended with code {returncode} ({last})")
    return low, high


def search(model: bytes, low: int, high: int) -> None:
    """Halve the span until it is one step, telling every size before it is tried."""
    while high - low > 1:
        middle = (low + high) // 2
        print(middle, flush=True)
        try:
            start(model, arena_bytes=middle * STEP)
            high = middle
            print(FITS, flush=True)
        except ArtifactError:
            low = middle
            print(SMALL, flush=True)


if __name__ == "__main__":
    search(Path(sys.argv[1]).read_bytes(), int(sys.argv[2]), int(sys.argv[3]))
