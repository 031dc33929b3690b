"""Lower a canonical graph for ONNX Runtime's CPU: INT8 as u8 Q/DQ that fuses, FP32 as the float twin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_unet.canonical import CanonicalGraph, load_graph, strip_qdq
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import UsageError
from edge_unet.core.files import bytes_of, sha256_of
from edge_unet.core.spec import Precision, TensorSpec
from edge_unet.targets.islands import Islands
from edge_unet.targets.onnxruntime import sessions
from edge_unet.targets.onnxruntime.ops import ZERO_POINT, U8Graph, check_op, lower_node

FILE = "model.onnx"
PRECISIONS = (Precision.INT8, Precision.FP32)

NOTES = (
    "s8 zero point 0 is re-expressed as u8 zero point 128, scales unchanged; the input is the raw u8 frame (NHWC)",
    "Clip and Relu stand behind the QuantizeLinear as u8 Clip; bit-exact with the canonical graph as written",
    "linear Resize is computed in float between its Q/DQ; a Clip that changes no code keeps ONNX Runtime from dropping "
    "the pair and truncating",
)
TWIN_NOTES = ("the canonical graph without its Q/DQ",)


def lower(canonical: Path, precision: Precision, *, into: Path) -> Artifact:
    """Write `into`/model.onnx. INT8 takes the u8 frame (1, H, W, C), FP32 the normalised float (1, C, H, W);
    both give float32 logits (1, classes, H, W).

    Raises GraphError naming a node without lowering, UsageError for another precision, MissingBackendError without
    onnxruntime.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"the onnx target has no {precision.value}; expected one of int8, fp32")
    version = sessions.runtime_name().split()[1]
    graph = load_graph(canonical)
    for node in graph.nodes:
        check_op(node)
    model = u8_model(graph) if precision is Precision.INT8 else strip_qdq(graph)
    path = into / FILE
    path.write_bytes(model.SerializeToString(deterministic=True))
    outputs = tuple(
        TensorSpec(name=name, shape=graph.shapes[name], dtype="float32", layout="NCHW") for name in graph.outputs
    )
    return Artifact(
        path=FILE, sha256=sha256_of(path), bytes=bytes_of(path), target="onnx", precision=precision,
        inputs=(input_spec(graph, precision),), outputs=outputs,
        toolchain={"onnx": onnx.__version__, "onnxruntime": version}, parent_sha256=sha256_of(canonical),
        notes=(*NOTES, *Islands(graph.islands).notes()) if precision is Precision.INT8 else TWIN_NOTES,
    )  # fmt: skip


def input_spec(graph: CanonicalGraph, precision: Precision) -> TensorSpec:
    """What the artifact takes: the raw u8 frame for INT8, the canonical float input otherwise."""
    shape = graph.shapes[graph.input]
    if precision is not Precision.INT8:
        return TensorSpec(name=graph.input, shape=shape, dtype="float32", layout="NCHW")
    n, c, h, w = shape
    scale = graph.metadata.preprocess.scale
    return TensorSpec(
        name=graph.input, shape=(n, h, w, c), dtype="uint8", layout="NHWC", scale=scale, zero_point=ZERO_POINT
    )


def u8_model(graph: CanonicalGraph) -> onnx.ModelProto:
    """The canonical graph with u8 activations, node by node through the op table; dead nodes removed."""
    out = U8Graph(graph)
    for node in graph.nodes:
        lower_node(node, out)
    nodes, used = [], set(graph.outputs)
    for proto in reversed(out.nodes):
        if used.intersection(proto.output):
            nodes.append(proto)
            used.update(proto.input)
    spec = input_spec(graph, Precision.INT8)
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    model.ClearField("graph")
    model.graph.CopyFrom(
        helper.make_graph(
            nodes[::-1],
            graph.model.graph.name,
            [helper.make_tensor_value_info(spec.name, TensorProto.UINT8, spec.shape)],
            list(graph.model.graph.output),
            [numpy_helper.from_array(np.asarray(v), k) for k, v in sorted(out.constants.items()) if k in used],
        )
    )
    onnx.checker.check_model(model)
    return model
