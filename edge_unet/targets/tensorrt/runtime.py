"""Open a kit: the engine that was built for this machine, else the kit's graph on ONNX Runtime, which says so."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_unet.canonical import load_graph
from edge_unet.core.artifact import Artifact, Census, Codes
from edge_unet.core.errors import ArtifactError, MissingBackendError, UsageError
from edge_unet.core.protocols import Session
from edge_unet.core.spec import Precision, Tensors
from edge_unet.targets.feeds import check_feeds, check_forced
from edge_unet.targets.onnxruntime import sessions
from edge_unet.targets.onnxruntime.layers import FORCED, INT8, expose
from edge_unet.targets.tensorrt.census import engine_census, predicted_census
from edge_unet.targets.tensorrt.kit.sidecar import engines_folder, read_chosen
from edge_unet.targets.tensorrt.kit.spec import KitError, KitSpec, load_kit
from edge_unet.targets.tensorrt.lower import GRAPH

if TYPE_CHECKING:
    from edge_unet.targets.tensorrt.kit.run_engine import Runner


class SemanticsSession:
    """Session and LayerSession on the kit's graph with ONNX Runtime, optimizations off: what the Q/DQ graph means,
    not what an engine computes."""

    def __init__(self, folder: Path, artifact: Artifact, threads: int) -> None:
        self._artifact = artifact
        self._threads = threads
        path = folder / artifact.path / GRAPH
        self._graph = load_graph(path)
        self._session = sessions.start(path, optimize=False, threads=threads)
        self._exposed: dict[frozenset[str], Any] = {}

    @property
    def artifact(self) -> Artifact:
        """What was opened."""
        return self._artifact

    @property
    def runtime(self) -> str:
        """Names what stands in for TensorRT."""
        what = "Q/DQ" if self._artifact.precision is Precision.INT8 else "FP16"
        return f"{what} semantics on {sessions.runtime_name()}, not a TensorRT engine"

    def infer(self, feeds: Tensors) -> Tensors:
        """{"image": (1, C, H, W) float32} -> {"logits": (1, classes, H, W) float32}."""
        check_feeds(feeds, self._artifact)
        names = [spec.name for spec in self._artifact.outputs]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def census(self) -> Census:
        """Predicted placement, with the runtime that stands in named in `source`."""
        census = predicted_census(self._graph, "fp32" if self._artifact.precision is Precision.INT8 else "fp16")
        return census.model_copy(update={"source": f"{census.source}; executed as {self.runtime}"})

    def codes(self, feeds: Tensors, *, force: Codes | None = None) -> Codes:
        """int8 codes of every QuantizeLinear output of the kit's graph."""
        check_feeds(feeds, self._artifact)
        if self._artifact.precision is not Precision.INT8:
            raise UsageError(f"{self._artifact.path}: a {self._artifact.precision.value} artifact has no codes")
        forced = {name: np.ascontiguousarray(code, np.int8) for name, code in (force or {}).items()}
        names = list(self._graph.activations)
        check_forced(forced, names)
        key = frozenset(forced)
        if key not in self._exposed:
            model = expose(self._graph, names, sorted(forced), INT8)
            self._exposed[key] = sessions.start(model.SerializeToString(), optimize=False, threads=self._threads)
        extra = {FORCED + name: code for name, code in forced.items()}
        return dict(zip(names, self._exposed[key].run(names, {**feeds, **extra}), strict=True))


class EngineSession:
    """Session on a TensorRT engine of this machine, through the kit's own runner."""

    def __init__(self, folder: Path, artifact: Artifact, runner: Runner, runtime: str) -> None:
        self._graph = folder / artifact.path / GRAPH
        self._artifact = artifact
        self._runner = runner
        self._runtime = runtime

    @property
    def artifact(self) -> Artifact:
        """What was opened."""
        return self._artifact

    @property
    def runtime(self) -> str:
        """'tensorrt <version>, <precision> engine': build.py may have chosen FP16."""
        return self._runtime

    def infer(self, feeds: Tensors) -> Tensors:
        """{"image": (1, C, H, W) float32} -> {"logits": (1, classes, H, W) float32}."""
        check_feeds(feeds, self._artifact)
        image = feeds[self._artifact.inputs[0].name]
        try:
            return {self._artifact.outputs[0].name: self._runner.infer(image)}
        except KitError as error:
            raise ArtifactError(str(error)) from error

    def census(self) -> Census:
        """Layers as the engine inspector tells."""
        return engine_census(self._runner.inspect(), load_graph(self._graph).islands)


@contextmanager
def open_kit(folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False) -> Iterator[Session]:
    """Open a kit. Where TensorRT is installed and build.py has chosen an engine, that engine; else the kit's graph.

    Raises UsageError for bf16, ArtifactError for a damaged kit or an engine built elsewhere, MissingBackendError
    without onnxruntime, or without CUDA where an engine is there.
    """
    if bf16:
        raise UsageError("a jetson kit has no bf16; lower it as fp16 or int8")
    kit = folder / artifact.path
    try:
        spec = load_kit(kit)
    except KitError as error:
        raise ArtifactError(str(error)) from error
    if importlib.util.find_spec("tensorrt") is None or not engines_folder(kit).is_dir():
        yield SemanticsSession(folder, artifact, threads)
        return
    with _open_engine(folder, spec, artifact) as session:
        yield session


@contextmanager
def _open_engine(folder: Path, spec: KitSpec, artifact: Artifact) -> Iterator[EngineSession]:
    """The chosen engine, checked against this machine."""
    from edge_unet.targets.tensorrt.kit.cuda import Cuda
    from edge_unet.targets.tensorrt.kit.device import this_machine
    from edge_unet.targets.tensorrt.kit.run_engine import Runner
    from edge_unet.targets.tensorrt.kit.sidecar import check_sidecar

    try:
        cuda = Cuda()
        machine = this_machine(cuda)
        engine = read_chosen(engines_folder(spec.folder))
        facts = check_sidecar(engine, machine, {graph.sha256 for graph in spec.graphs.values()})
        runner = Runner(engine, spec, cuda)
    except KitError as error:
        kind = MissingBackendError if error.exit_code == 5 else ArtifactError
        raise kind(str(error)) from error
    with runner:
        yield EngineSession(folder, artifact, runner, f"tensorrt {machine.tensorrt}, {facts['precision']} engine")
