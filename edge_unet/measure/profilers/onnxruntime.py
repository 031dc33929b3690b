"""ONNX Runtime's profile: one event per kernel and run, written to a file."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from edge_unet.canonical import CanonicalGraph
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import UsageError, require
from edge_unet.core.spec import Tensors
from edge_unet.measure.profilers.profile import FUSED, WARM, Names, Profile, layer_time
from edge_unet.targets.feeds import check_feeds
from edge_unet.targets.onnxruntime import sessions
from edge_unet.targets.onnxruntime.ops import INTERNAL

SUFFIX = "_kernel_time"


def profile(
    folder: Path, artifact: Artifact, feeds: Tensors, runs: int, *, graph: CanonicalGraph, threads: int, bf16: bool
) -> Profile:
    """Median of each kernel over `runs` runs. Raises UsageError for bf16, which the runtime's CPU kernels lack."""
    if bf16:
        raise UsageError("ONNX Runtime computes float graphs in fp32 on this CPU; profile without bf16")
    check_feeds(feeds, artifact)
    names = Names(graph)
    layers = []
    for (written, op), times in _samples(folder / artifact.path, feeds, runs, threads).items():
        name = written.partition("_token_")[0].removeprefix(INTERNAL)
        node = names.node([name], alone=op in FUSED)
        layers.append(layer_time(name, op.removeprefix("QLinear"), f"CPU {op}", node, times))
    return Profile("ONNX Runtime profile", sessions.runtime_name(), runs, tuple(layers))


def _samples(path: Path, feeds: Tensors, runs: int, threads: int) -> dict[tuple[str, str], list[float]]:
    """(node, op) -> nanoseconds of every counted run, in the order of execution. The file is gone afterwards."""
    ort = require("onnxruntime", "onnx")
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        options = sessions.start(path, optimize=True, threads=threads).get_session_options()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(room) / "profile")
        session = ort.InferenceSession(str(path), options, providers=sessions.PROVIDERS)
        for _ in range(WARM + runs):
            session.run(None, dict(feeds))
        events: list[dict[str, Any]] = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [e for e in events if e.get("cat") == "Node" and str(e["name"]).endswith(SUFFIX)]
    samples: dict[tuple[str, str], list[float]] = {}
    for event in sorted(kernels, key=lambda e: int(e["ts"])):
        key = (str(event["name"]).removesuffix(SUFFIX), str(event["args"]["op_name"]))
        samples.setdefault(key, []).append(float(event["dur"]) * 1000)
    return {key: times[WARM:] for key, times in samples.items()}
