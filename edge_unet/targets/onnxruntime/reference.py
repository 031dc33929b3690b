"""The reference of every comparison: the canonical file itself on ONNX Runtime with graph optimizations off.

Off, because the optimizer removes the Q/DQ pairs around a linear Resize and computes it otherwise; the nodes as they
are written are what the quantized training saw. A float artifact is compared with the float twin instead: what
quantization itself changes is no error of a float lowering.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_unet.canonical import CanonicalGraph, load_graph, strip_qdq, view_graph
from edge_unet.core.artifact import Artifact, Census, Codes, LayerPlacement
from edge_unet.core.errors import UsageError
from edge_unet.core.files import bytes_of, sha256_of
from edge_unet.core.spec import Precision, Tensors, TensorSpec
from edge_unet.targets.feeds import check_feeds, check_forced
from edge_unet.targets.islands import Islands
from edge_unet.targets.onnxruntime import sessions
from edge_unet.targets.onnxruntime.layers import FORCED, INT8, expose

SHAPE_ONLY = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze"}
)
"""Ops that are not counted as layers: they do no arithmetic of their own."""


class ReferenceSession:
    """Session and LayerSession on a canonical graph, or Session on its float twin: float32 NCHW "image" in, float32
    NCHW "logits" out."""

    def __init__(self, graph: CanonicalGraph, artifact: Artifact, model: Path | bytes) -> None:
        self._graph = graph
        self._artifact = artifact
        self._session = sessions.start(model, optimize=False)
        self._islands = Islands(graph.islands)
        self._exposed: dict[frozenset[str], Any] = {}

    @property
    def artifact(self) -> Artifact:
        """The canonical file as an artifact."""
        return self._artifact

    @property
    def runtime(self) -> str:
        """'onnxruntime <version>, graph optimizations off', and which graph where it is the float twin."""
        which = "" if self._artifact.precision is Precision.INT8 else ", float twin"
        return f"{sessions.runtime_name()}, graph optimizations off{which}"

    def infer(self, feeds: Tensors) -> Tensors:
        """{"image": (1, C, H, W) float32} -> {"logits": (1, classes, H, W) float32}."""
        check_feeds(feeds, self._artifact)
        names = [spec.name for spec in self._artifact.outputs]
        return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def census(self) -> Census:
        """Every layer is float here: with optimizations off, Q/DQ only rounds between float layers."""
        layers = tuple(
            LayerPlacement(
                name=node.name,
                op=node.op,
                precision="fp32",
                unit=f"CPUExecutionProvider{self._islands.note([node.name])}",
            )
            for node in self._graph.nodes
            if node.op not in SHAPE_ONLY
        )
        return Census(layers=layers, source="canonical graph, nodes as written")

    def codes(self, feeds: Tensors, *, force: Codes | None = None) -> Codes:
        """int8 codes of every QuantizeLinear output, in graph order. Raises UsageError on a float twin."""
        check_feeds(feeds, self._artifact)
        if self._artifact.precision is not Precision.INT8:
            raise UsageError(f"{self._artifact.path}: its float twin has no codes")
        forced = dict(force or {})
        names = list(self._graph.activations)
        check_forced(forced, names)
        key = frozenset(forced)
        if key not in self._exposed:
            model = expose(self._graph, names, sorted(forced), INT8)
            self._exposed[key] = sessions.start(model.SerializeToString(), optimize=False)
        extra = {FORCED + name: np.ascontiguousarray(code, np.int8) for name, code in forced.items()}
        return dict(zip(names, self._exposed[key].run(names, {**feeds, **extra}), strict=True))


@contextmanager
def open_reference(canonical: Path, precision: Precision = Precision.INT8) -> Iterator[ReferenceSession]:
    """Open the canonical ONNX as the reference session of INT8 artifacts, or its float twin as that of others.

    Raises UsageError where the file is absent, ArtifactError where it is damaged, MissingBackendError without
    onnxruntime.
    """
    graph = load_graph(canonical)
    model: Path | bytes = canonical
    if precision is not Precision.INT8:
        twin = strip_qdq(graph)
        graph, model, precision = view_graph(twin), twin.SerializeToString(), Precision.FP32
    digest = sha256_of(canonical)
    artifact = Artifact(
        path=canonical.name, sha256=digest, bytes=bytes_of(canonical), target="reference", precision=precision,
        inputs=(TensorSpec(name=graph.input, shape=graph.shapes[graph.input], dtype="float32", layout="NCHW"),),
        outputs=tuple(
            TensorSpec(name=name, shape=graph.shapes[name], dtype="float32", layout="NCHW") for name in graph.outputs
        ),
        toolchain={"onnxruntime": sessions.runtime_name().split()[1]}, parent_sha256=digest,
    )  # fmt: skip
    yield ReferenceSession(graph, artifact, model)
