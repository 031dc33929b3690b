"""Runs one model over frames in whatever Python it is started with, here and under the emulator alike.

    python inside.py MODEL KIND FEEDS.npz OUTPUTS.npz

KIND is onnx, onnx-plain (ONNX Runtime without graph optimizations), xnnpack, builtin or reference (LiteRT's kernels).
Needs numpy and the runtime, nothing else: the arm64 root has no edge_unet. Prints versions as one line of JSON.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np


def onnx_runner(model: Path, optimize: bool) -> Any:
    """feeds (1, …) -> the only output."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda feed: session.run(None, {name: feed})[0]


def litert_runner(model: Path, kernels: str) -> Any:
    """feeds (1, …) -> the only output."""
    from ai_edge_litert import interpreter as litert

    kinds = litert.OpResolverType
    resolver = {
        "xnnpack": kinds.BUILTIN,
        "builtin": kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": kinds.BUILTIN_REF,
    }[kernels]
    session = litert.Interpreter(str(model), num_threads=1, experimental_op_resolver_type=resolver)
    session.allocate_tensors()
    source, sink = session.get_input_details()[0]["index"], session.get_output_details()[0]["index"]

    def run(feed: Any) -> Any:
        session.set_tensor(source, feed)
        session.invoke()
        return session.get_tensor(sink)

    return run


def main() -> None:
    """Run every frame and write the raw outputs."""
    model, kind, feeds, outputs = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    run = onnx_runner(model, kind == "onnx") if kind.startswith("onnx") else litert_runner(model, kind)
    frames = np.load(feeds)["feeds"]  # (frames, 1, …)
    np.savez(outputs, outputs=np.stack([run(np.ascontiguousarray(frame)) for frame in frames]))
    names = ("numpy", "onnxruntime" if kind.startswith("onnx") else "ai-edge-litert")
    said = {name: version(name) for name in names}
    print(json.dumps({"machine": platform.machine(), "python": platform.python_version(), **said}))


if __name__ == "__main__":
    main()
