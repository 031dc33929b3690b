# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""Open an artifact in the runtime it is made for, with the options that edge_unet/targets uses."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import MISSING, RunnerError
from .job import Subject
from .machine import installed

if TYPE_CHECKING:
    from numpy.typing import NDArray

Infer = Callable[["NDArray[Any]"], "NDArray[Any]"]


@dataclass(frozen=True)
class Opened:
    """One artifact in one runtime. `run` is what is timed, without arguments; it returns its `stages` in ns."""

    subject: Subject
    precision: str
    runtime: str
    infer: Infer | None
    run: Callable[[], Sequence[int]]
    stages: tuple[str, ...] = ()
    golden: list[float] = field(default_factory=list)
    layers: list[dict[str, str]] | None = None

    @property
    def label(self) -> str:
        """'kvasir cpu int8'."""
        return f"{self.subject.label} {self.precision}"


def open_subject(subject: Subject, threads: int) -> Opened:
    """Open one artifact. Raises RunnerError: MISSING without its runtime, else with the runtime's own words."""
    opener = OPENERS[subject.engine]
    try:
        runtime, infer = opener(subject, threads)
    except (RuntimeError, ValueError, OSError) as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise RunnerError(f"{subject.label}: {subject.engine} cannot open it here: {words[-1]}") from error
    feed = np.load(str(subject.golden[0].feed))

    def run() -> Sequence[int]:
        infer(feed)
        return ()

    return Opened(subject, subject.precision, runtime, infer, run)


def require(modules: Sequence[str], package: str) -> Any:
    """The first of `modules` that is installed."""
    for name in modules:
        try:
            return importlib.import_module(name)
        except ImportError as error:
            reason = str(error)
    raise RunnerError(missing(package, reason), MISSING)


def missing(package: str, reason: str) -> str:
    """What to type on the device. A virtual environment at ~/.edge-unet is found without being named."""
    python = sys.executable or "python3"
    return (
        f"{package} is missing on the device ({python}: {reason}); "
        f"install it there: {python} -m pip install {package}, or, where pip is locked, "
        "python3 -m venv --system-site-packages ~/.edge-unet && "
        f"~/.edge-unet/bin/pip install {package}"
    )


def open_openvino(subject: Subject, threads: int) -> tuple[str, Infer]:
    """OpenVINO's CPU plugin. bf16 is refused where the CPU has none."""
    ov = require(("openvino",), "openvino")
    core = ov.Core()
    bf16 = subject.precision == "bf16"
    if bf16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise RunnerError("OpenVINO finds no bfloat16 arithmetic on this CPU")
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }
    model = core.read_model(str(subject.artifact / "model.xml"), str(subject.artifact / "model.bin"))
    request = core.compile_model(model, "CPU", options).create_infer_request()

    def infer(feed: NDArray[Any]) -> NDArray[Any]:
        request.set_input_tensor(0, ov.Tensor(feed, shared_memory=True))
        request.infer(share_outputs=True)
        output: NDArray[Any] = request.get_output_tensor(0).data.copy()
        return output

    return f"openvino {ov.__version__.split('-')[0]}", infer


def open_tflite(subject: Subject, threads: int) -> tuple[str, Infer]:
    """LiteRT, or the older tflite_runtime, with whatever delegate the runtime takes by itself."""
    module = require(("ai_edge_litert.interpreter", "tflite_runtime.interpreter"), "ai-edge-litert")
    interpreter = module.Interpreter(model_path=str(subject.artifact), num_threads=threads)
    interpreter.allocate_tensors()
    source, sink = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    versions = installed(("ai-edge-litert", "tflite-runtime"))
    package = "ai-edge-litert" if module.__name__.startswith("ai_edge") else "tflite-runtime"
    name = "litert" if package == "ai-edge-litert" else "tflite_runtime"
    delegated = any(op["op_name"] == "DELEGATE" for op in interpreter._get_ops_details())
    kernels = "XNNPACK" if delegated else "built-in kernels"

    def infer(feed: NDArray[Any]) -> NDArray[Any]:
        interpreter.set_tensor(source, feed)
        interpreter.invoke()
        output: NDArray[Any] = interpreter.get_tensor(sink)
        return output

    return f"{name} {versions.get(package, 'of unknown version')}, {kernels}", infer


def open_onnxruntime(subject: Subject, threads: int) -> tuple[str, Infer]:
    """ONNX Runtime's CPU provider, optimizations on."""
    ort = require(("onnxruntime",), "onnxruntime")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(subject.artifact), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no base class below Exception
        raise RuntimeError(str(error)) from error
    source, sink = subject.input.name, subject.output.name

    def infer(feed: NDArray[Any]) -> NDArray[Any]:
        output: NDArray[Any] = session.run([sink], {source: feed})[0]
        return output

    return f"onnxruntime {ort.__version__}", infer


OPENERS: dict[str, Callable[[Subject, int], tuple[str, Infer]]] = {
    "openvino": open_openvino,
    "tflite": open_tflite,
    "onnxruntime": open_onnxruntime,
}
