"""Run an `onnx` artifact on ONNX Runtime's CPU, optimizations on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edge_unet.canonical import load_graph
from edge_unet.core.artifact import Artifact, Census, Codes
from edge_unet.core.errors import UsageError
from edge_unet.core.spec import Precision, Tensors
from edge_unet.targets.feeds import check_feeds, check_forced
from edge_unet.targets.islands import Islands
from edge_unet.targets.onnxruntime import sessions
from edge_unet.targets.onnxruntime.census import executed_layers
from edge_unet.targets.onnxruntime.layers import FORCED, UINT8, expose
from edge_unet.targets.onnxruntime.read_back import read_back

SIGN = np.uint8(0x80)
"""u8 code ^ 0x80, viewed as int8, is code - 128: the canonical code."""


class OnnxSession:
    """Session and LayerSession on an INT8 or FP32 artifact."""

    def __init__(self, folder: Path, artifact: Artifact, threads: int, *, optimize: bool = True) -> None:
        self._path = folder / artifact.path
        self._folder = folder
        self._artifact = artifact
        self._threads = threads
        self._optimize = optimize
        self._outputs = [spec.name for spec in artifact.outputs]
        self._session = sessions.start(self._path, optimize=optimize, threads=threads)
        self._exposed: dict[frozenset[str], Any] = {}

    @property
    def artifact(self) -> Artifact:
        """What was opened."""
        return self._artifact

    @property
    def runtime(self) -> str:
        """'onnxruntime <version>'."""
        return sessions.runtime_name()

    def infer(self, feeds: Tensors) -> Tensors:
        """Run once. Raises UsageError for feeds that are not the artifact's inputs."""
        check_feeds(feeds, self._artifact)
        return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))

    def census(self) -> Census:
        """Layers of the graph that the runtime made of the artifact."""
        with tempfile.TemporaryDirectory() as room:
            saved = Path(room) / "optimized.onnx"
            sessions.start(self._path, optimize=self._optimize, threads=self._threads, save_optimized=saved)
            islands = Islands(load_graph(self._path).islands)
            layers = executed_layers(onnx.load(saved), islands)
            return Census(layers=layers, source="optimized graph saved by the runtime")

    def codes(self, feeds: Tensors, *, force: Codes | None = None) -> Codes:
        """int8 codes (canonical grid, NCHW) of every quantized tensor, from the optimized graph."""
        check_feeds(feeds, self._artifact)
        if self._artifact.precision is not Precision.INT8:
            raise UsageError(f"{self._artifact.path}: a {self._artifact.precision.value} artifact has no codes")
        names = list(read_back(self._folder, self._artifact).activations)
        forced = dict(force or {})
        check_forced(forced, names)
        key = frozenset(forced)
        if key not in self._exposed:
            model = expose(load_graph(self._path), names, sorted(forced), UINT8)
            self._exposed[key] = sessions.start(
                model.SerializeToString(), optimize=self._optimize, threads=self._threads
            )
        extra = {FORCED + n: np.ascontiguousarray(code, np.int8).view(np.uint8) ^ SIGN for n, code in forced.items()}
        values = self._exposed[key].run(names, {**feeds, **extra})
        return {name: (value ^ SIGN).view(np.int8) for name, value in zip(names, values, strict=True)}


@contextmanager
def open_onnx(folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False) -> Iterator[OnnxSession]:
    """Open an artifact. Raises UsageError for bf16 (ONNX Runtime's CPU has no bfloat16 kernels), ArtifactError for a
    damaged file, MissingBackendError without onnxruntime."""
    if bf16:
        raise UsageError("ONNX Runtime computes float graphs in fp32 on this CPU; for bfloat16 use --target cpu")
    yield OnnxSession(folder, artifact, threads)
