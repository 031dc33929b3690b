"""TFLite Micro's interpreter: starting it, and what it said when it would not start."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

from edge_unet.core.errors import ArtifactError, require

PLENTY = 1 << 28
"""Bytes of an arena in which every network fits that is meant for a microcontroller."""

STEP = 1024
"""Arena sizes are tried in multiples of this."""


def start(model: bytes, *, arena_bytes: int = PLENTY, keep_all_tensors: bool = False) -> Any:
    """An Interpreter with allocated tensors. Raises ArtifactError with TFLite Micro's own words where it refuses the
    model, MissingBackendError without tflite-micro."""
    runtime = require("tflite_micro", "mcu").runtime
    kinds = runtime.InterpreterConfig
    config = kinds.kPreserveAllTensors if keep_all_tensors else kinds.kAllocationRecording
    words: list[str] = []
    try:
        with _overheard(words):
            return runtime.Interpreter.from_bytes(model, arena_size=arena_bytes, intrepreter_config=config)
    except RuntimeError as error:
        said = "; ".join(words) or str(error)
        raise ArtifactError(
            f"TFLite Micro cannot load the model with an arena of {arena_bytes} bytes ({said})"
        ) from error


def runtime_name() -> str:
    """'tflite-micro <version>'."""
    return f"tflite-micro {version('tflite-micro')}"


@contextmanager
def _overheard(words: list[str]) -> Iterator[None]:
    """Keep what native code writes to standard error from the terminal, and put its lines into `words`."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as room:
        os.dup2(room.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            room.seek(0)
            words += [line.strip() for line in room.read().decode(errors="replace").splitlines() if line.strip()]
