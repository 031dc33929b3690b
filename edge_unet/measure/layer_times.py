"""Where the time of one artifact goes, by its runtime's own profiler."""

from __future__ import annotations

from collections.abc import Mapping

from edge_unet.canonical import CanonicalGraph, load_graph
from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import UsageError
from edge_unet.core.limits import LayerTimes
from edge_unet.core.protocols import Target
from edge_unet.core.registry import registry
from edge_unet.core.spec import Precision, Tensors
from edge_unet.measure.profilers import litert, onnxruntime, openvino
from edge_unet.measure.profilers.profile import Profiler

PROFILERS: Mapping[str, Profiler] = registry(
    (
        ("cpu", openvino.profile),
        ("onnx", onnxruntime.profile),
        ("android", litert.profile),
        ("embedded-linux", litert.profile),
    )
)
"""Target -> its runtime's profiler."""


def layer_times(
    bundle: Bundle,
    target: Target,
    feeds: Tensors,
    runs: int,
    *,
    threads: int = 1,
    bf16: bool = False,
    graph: CanonicalGraph | None = None,
) -> LayerTimes:
    """Median time of every layer over `runs` profiled runs, under the canonical graph's names where the runtime keeps
    them. `graph` is the bundle's canonical graph where the caller has read it. Raises UsageError for a target whose
    runtime has no profiler here, MissingBackendError without the runtime."""
    if target.name not in PROFILERS:
        raise UsageError(f"target {target.name!r} has no profiler here; known: {', '.join(PROFILERS)}")
    artifact = bundle.manifest.artifact
    found = PROFILERS[target.name](
        bundle.folder, artifact, feeds, runs, graph=graph or load_graph(bundle.canonical), threads=threads, bf16=bf16
    )
    return LayerTimes(
        target=target.name,
        precision=Precision.BF16 if bf16 else artifact.precision,
        runtime=found.runtime,
        bundle=bundle.manifest.name,
        artifact_sha256=artifact.sha256,
        source=found.source,
        runs=found.runs,
        layers=found.layers,
    )
