"""Run a `cpu` artifact on OpenVINO's CPU plugin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.artifact import Artifact, Census, Codes, Grid
from edge_unet.core.errors import ArtifactError, UsageError, require
from edge_unet.core.spec import Precision, Tensors
from edge_unet.targets.feeds import check_feeds, check_forced
from edge_unet.targets.openvino.census import executed_layers
from edge_unet.targets.openvino.read_back import islands_in, read_back, read_model


class OpenVinoSession:
    """Session and LayerSession on an INT8 or FP32 artifact."""

    def __init__(self, folder: Path, artifact: Artifact, threads: int, hint: str) -> None:
        self._folder = folder
        self._artifact = artifact
        self._options = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # a pinned thread cannot leave a core that something else keeps busy
        }
        self._compiled = self._compile(read_model(folder, artifact))
        self._request = self._compiled.create_infer_request()
        self._tensor: Any = require("openvino", "openvino").Tensor
        self._exposed: dict[frozenset[str], Any] = {}

    def _compile(self, model: Any) -> Any:
        ov = require("openvino", "openvino")
        try:
            return ov.Core().compile_model(model, "CPU", self._options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ArtifactError(f"{self._artifact.path}: OpenVINO cannot compile it ({reason})") from error

    @property
    def artifact(self) -> Artifact:
        """What was opened."""
        return self._artifact

    @property
    def runtime(self) -> str:
        """'openvino <version>'."""
        return f"openvino {require('openvino', 'openvino').__version__.split('-')[0]}"

    def infer(self, feeds: Tensors) -> Tensors:
        """Run once. Inputs are read where they lie; outputs are copies, safe to keep across calls."""
        check_feeds(feeds, self._artifact)
        for place, spec in enumerate(self._artifact.inputs):
            array = np.ascontiguousarray(feeds[spec.name])
            self._request.set_input_tensor(place, self._tensor(array, shared_memory=True))
        self._request.infer(share_outputs=True)  # tensors bound by hand: 0.1 ms less than passing a dictionary
        outputs = enumerate(self._artifact.outputs)
        return {spec.name: self._request.get_output_tensor(place).data.copy() for place, spec in outputs}

    def census(self) -> Census:
        """Layers of the graph that the plugin executes."""
        model = read_model(self._folder, self._artifact)
        written = {node.get_friendly_name(): node.get_type_name() for node in model.get_ordered_ops()}
        return Census(layers=executed_layers(self._compiled, written, islands_in(model)), source="runtime model")

    def codes(self, feeds: Tensors, *, force: Codes | None = None) -> Codes:
        """int8 codes (canonical grid, NCHW) of every quantized tensor, from a copy with one output for each.

        An output ends a fused kernel: the copy computes the same values in smaller steps than `infer` does.
        """
        check_feeds(feeds, self._artifact)
        if self._artifact.precision is not Precision.INT8:
            raise UsageError(f"{self._artifact.path}: a {self._artifact.precision.value} artifact has no codes")
        grids = read_back(self._folder, self._artifact).activations
        forced = dict(sorted((force or {}).items()))
        check_forced(forced, grids)
        key = frozenset(forced)
        if key not in self._exposed:
            model = expose(read_model(self._folder, self._artifact), grids, list(forced))
            self._exposed[key] = self._compile(model).create_infer_request()
        reals = [np.asarray(code, np.float32) * grids[name].scale for name, code in forced.items()]
        inputs = [feeds[spec.name] for spec in self._artifact.inputs] + reals
        values = self._exposed[key].infer(dict(enumerate(inputs)))
        return {name: _codes(values[place], grid) for place, (name, grid) in enumerate(grids.items())}


def _codes(real: NDArray[np.float32], grid: Grid) -> NDArray[np.int8]:
    """Real values on a grid -> its codes. The canonical zero point is 0 whatever the artifact's is."""
    codes: NDArray[np.int8] = np.clip(np.rint(real / grid.scale), -128, 127).astype(np.int8)
    return codes


def expose(model: Any, grids: Mapping[str, Grid], forced: list[str]) -> Any:
    """The model with every tensor of `grids` as an output; the readers of each tensor in `forced` take an extra
    float input instead, rounded onto the same grid so that they stay integer layers."""
    ov, ops = require("openvino", "openvino"), require("openvino.opset13", "openvino")
    nodes = {node.get_friendly_name(): node for node in model.get_ordered_ops()}
    parameters = list(model.get_parameters())
    for name in forced:
        output = nodes[name].output(0)
        readers = output.get_target_inputs()
        extra = ops.parameter(output.get_shape(), np.float32)
        scale = np.float32(grids[name].scale)
        low, high = np.float32(-128) * scale, np.float32(127) * scale
        rounded = ops.fake_quantize(extra, low, high, low, high, 256)
        for reader in readers:
            reader.replace_source_output(rounded.output(0))
        parameters.append(extra)
    results = [ops.result(nodes[name].output(0)) for name in grids]
    return ov.Model(results, parameters, "exposed")


def has_bf16() -> bool:
    """Whether the CPU plugin computes in bfloat16 on this machine."""
    core = require("openvino", "openvino").Core()
    return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@contextmanager
def open_openvino(
    folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False
) -> Iterator[OpenVinoSession]:
    """Open an artifact: one stream of `threads` threads, tuned for latency.

    The precision hint is f32 unless `bf16`: with the plugin's bf16 default some Q/DQ graphs do not compile on AMX
    machines. Raises UsageError where bf16 is asked of an INT8 artifact or of a CPU without it, ArtifactError for a
    damaged file, MissingBackendError without openvino.
    """
    if bf16 and artifact.precision is not Precision.FP32:
        raise UsageError(f"bf16 is a way to open an fp32 artifact; {artifact.path} is {artifact.precision.value}")
    if bf16 and not has_bf16():
        raise UsageError("OpenVINO finds no bfloat16 arithmetic on this CPU; open the artifact without bf16")
    yield OpenVinoSession(folder, artifact, threads, "bf16" if bf16 else "f32")
