"""Lower a canonical graph to a .tflite file: int8 in and out (INT8), or float32 in and out (FP32).

The INT8 file takes pixel - 128 as int8 NHWC and gives logits as int8 NHWC with step 1/16. Every scale and weight is
the canonical graph's; tensors bear its names. Biases become int32 with step s_input * s_weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from edge_unet.canonical import CanonicalGraph, load_graph, strip_qdq, view_graph
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import GraphError, UsageError
from edge_unet.core.files import bytes_of, canonical_json, sha256_of
from edge_unet.core.registry import nearest as nearest_name
from edge_unet.core.spec import Precision, TensorSpec
from edge_unet.targets.tflite.build import Build, Destination, Nearest, Value
from edge_unet.targets.tflite.layout import NHWC, plain
from edge_unet.targets.tflite.ops import OPS, Op
from edge_unet.targets.tflite.writer import ModelWriter

PRECISIONS = (Precision.INT8, Precision.FP32)


def lower_android(canonical: Path, precision: Precision, *, into: Path) -> Artifact:
    """Lowering of target `android`."""
    return lower(canonical, precision, into=into, target="android")


def lower_embedded_linux(canonical: Path, precision: Precision, *, into: Path) -> Artifact:
    """Lowering of target `embedded-linux`."""
    return lower(canonical, precision, into=into, target="embedded-linux")


def lower(
    canonical: Path, precision: Precision, *, into: Path, target: str, nearest: Nearest = "copies",
    ops: Mapping[str, Op] = OPS,
) -> Artifact:  # fmt: skip
    """Write `into`/model.tflite and describe it. `nearest` is how nearest x2 is written (see build.Nearest), `ops`
    the table of ops.

    Raises UsageError on a precision other than INT8 and FP32, GraphError naming the node that has no lowering,
    MissingBackendError without ai-edge-litert.
    """
    if precision not in PRECISIONS:
        known = ", ".join(p.value for p in PRECISIONS)
        raise UsageError(f"target {target!r} has no precision {precision.value!r}; expected one of: {known}")
    graph = load_graph(canonical)
    if precision is Precision.FP32:
        graph = view_graph(strip_qdq(graph))
    parent = sha256_of(canonical)
    build, inputs, outputs = build_graph(graph, int8=precision is Precision.INT8, nearest=nearest, ops=ops)
    path = into / "model.tflite"
    path.write_bytes(
        build.writer.finish(
            {name: value.index for name, value in inputs.items()},
            {name: value.index for name, value in outputs.items()},
            _blob(build, graph, parent, precision),
        )
    )
    return Artifact(
        path=path.name,
        sha256=sha256_of(path),
        bytes=bytes_of(path),
        target=target,
        precision=precision,
        inputs=tuple(_spec(name, value) for name, value in inputs.items()),
        outputs=tuple(_spec(name, value) for name, value in outputs.items()),
        toolchain={name: version(name) for name in ("ai-edge-litert", "flatbuffers", "onnx")},
        parent_sha256=parent,
        notes=tuple(build.notes),
    )


def build_graph(
    graph: CanonicalGraph, *, int8: bool, nearest: Nearest = "copies", ops: Mapping[str, Op] = OPS
) -> tuple[Build, dict[str, Value], dict[str, Value]]:
    """Write every node; returns the build and the graph's inputs and outputs by public name."""
    kind = "int8" if int8 else "fp32"
    build = Build(graph, ModelWriter(f"edge_unet {graph.metadata.name} {kind}"), int8=int8, nearest=nearest)
    if int8:
        _check_grids(graph)
    inputs = {graph.input: _input(build)}
    for node in graph.nodes:
        if build.taken(node):
            continue
        if node.op not in ops:
            raise GraphError(
                f"node {node.name!r}: no TFLite lowering for ONNX op {node.op!r} ({nearest_name(node.op, ops)}); "
                f"known: {', '.join(sorted(ops))}"
            )
        written = build.writer.ops
        ops[node.op](build, node)
        if int8 and (path := graph.island(node)) is not None:
            build.islands[path] = build.islands.get(path, 0) + build.writer.ops - written
    for path, count in build.islands.items():
        build.notes.append(f"{path}: {count} float32 ops in a declared island: {graph.metadata.islands[path]}")
    missing = [name for name in graph.outputs if name not in build.values]
    if missing:
        raise GraphError(f"graph output {missing[0]!r} is not quantized; expected a Q/DQ pair in front of it")
    return build, inputs, {name: _output(build, name) for name in graph.outputs}


def _input(build: Build) -> Value:
    """The graph input: the int8 tensor behind its QuantizeLinear, or float32."""
    graph = build.graph
    shape = graph.shapes[graph.input]
    if len(shape) != 4:
        raise GraphError(f"graph input {graph.input!r} has shape {shape}; expected (1, channels, height, width)")
    readers = graph.consumers.get(graph.input, ())
    if not build.int8:
        return build.create(Destination((graph.input,), shape, None, "NONE"), NHWC)
    if any(reader.op != "QuantizeLinear" for reader in readers) or not readers:
        raise GraphError(f"graph input {graph.input!r}: expected QuantizeLinear as its only reader")
    grid = graph.activations[readers[0].output]
    for reader in readers:
        build.take(reader)
    return build.create(Destination(tuple(r.output for r in readers), shape, grid, "NONE"), NHWC)


def _output(build: Build, name: str) -> Value:
    """A graph output: an image as NHWC, everything else in ONNX order."""
    value = build.values[name]
    known = (plain(len(value.shape)), NHWC)
    return value if value.order in known else build.lay(value, known[0])


def _check_grids(graph: CanonicalGraph) -> None:
    """Raise GraphError unless every activation is int8 with one scale: TFLite's int8 kernels take nothing else."""
    for node in graph.nodes:
        if node.op != "QuantizeLinear":
            continue
        zero = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        if zero is None or zero.dtype != np.int8 or graph.activations[node.output].scale.size != 1:
            raise GraphError(
                f"node {node.name!r} (QuantizeLinear): expected int8 with one scale, received "
                f"{'no zero point' if zero is None else zero.dtype} and {graph.activations[node.output].scale.size} "
                "scales; export with the portable scheme"
            )


def _spec(name: str, value: Value) -> TensorSpec:
    if value.grid is None:
        return TensorSpec(
            name=name, shape=value.shape, dtype="float32", layout="NHWC" if value.order == NHWC else "NCHW"
        )
    return TensorSpec(
        name=name,
        shape=value.shape,
        dtype="int8",
        layout="NHWC" if value.order == NHWC else "NCHW",
        scale=float(value.grid.scale),
        zero_point=value.grid.zero_point,
    )


def _blob(build: Build, graph: CanonicalGraph, parent: str, precision: Precision) -> str:
    """The JSON inside the file: whose graph this is, and where and how the canonical activations lie in it."""
    held = [(name, build.values[name]) for name in graph.activations if name in build.values]
    return canonical_json(
        {
            "schema_version": 1,
            "precision": precision.value,
            "canonical_sha256": parent,
            "canonical": graph.metadata.model_dump(mode="json"),
            "activations": {name: {"tensor": value.index, "order": value.order} for name, value in held},
            "islands": build.islands,
        }
    )
