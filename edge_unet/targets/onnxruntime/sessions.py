"""ONNX Runtime sessions on the CPU, with one place for every option that changes results or timing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_unet.core.errors import ArtifactError, require

PROVIDERS = ["CPUExecutionProvider"]


def start(model: bytes | Path, *, optimize: bool, threads: int = 1, save_optimized: Path | None = None) -> Any:
    """An onnxruntime.InferenceSession.

    `optimize=False` runs the nodes as they are written. `save_optimized` makes the runtime write the graph that it
    really executes. Raises ArtifactError where the runtime refuses the model, MissingBackendError without onnxruntime.
    """
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimize else level.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors: an optimized model being machine-specific is known and intended
    if save_optimized is not None:
        options.optimized_model_filepath = str(save_optimized)
    source = str(model) if isinstance(model, Path) else model
    try:
        return ort.InferenceSession(source, options, providers=PROVIDERS)
    except Exception as error:  # the runtime's exceptions share no base class below Exception
        first = str(error).strip().splitlines()[0]
        where = model if isinstance(model, Path) else "model"
        raise ArtifactError(f"{where}: ONNX Runtime cannot load it ({first}); lower it again") from error


def runtime_name() -> str:
    """'onnxruntime <version>'."""
    return f"onnxruntime {require('onnxruntime', 'onnx').__version__}"
