"""Lower a canonical graph to OpenVINO IR, operator by operator.

Not through OpenVINO's ONNX reader: it re-expresses the scales, puts depthwise weights behind a Reshape (they then run
in f32) and computes shapes at run time. Built directly, scales and integers are the canonical ones, bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_unet.canonical import CanonicalGraph, load_graph, strip_qdq, view_graph
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import UsageError, require
from edge_unet.core.files import bytes_of, sha256_of
from edge_unet.core.spec import Precision, TensorSpec
from edge_unet.targets.islands import Islands
from edge_unet.targets.openvino.ir import IrGraph
from edge_unet.targets.openvino.model_info import write_model_info
from edge_unet.targets.openvino.ops import lower_node

FOLDER = "model"
XML = "model.xml"
BIN = "model.bin"
PRECISIONS = (Precision.INT8, Precision.FP32)
NOTES = (
    "FakeQuantize ranges -128 s .. 127 s: 256 levels of the canonical int8 grid",
    "a linear Resize is computed in float between its Q/DQ, as matrix products where it has few channels",
    "a PReLU of slope 1 behind a conv's quantizer keeps its rounding where an elementwise op follows",
)
TWIN_NOTES = ("the canonical graph without its Q/DQ",)


def lower(canonical: Path, precision: Precision, *, into: Path) -> Artifact:
    """Write `into`/model/model.xml and model.bin. INT8 takes the u8 frame (1, H, W, C), FP32 the normalised float
    (1, C, H, W); both give float32 logits (1, classes, H, W). For bf16 open the FP32 artifact with bf16=True.

    Raises GraphError naming a node without lowering, UsageError for another precision, MissingBackendError without
    openvino.
    """
    if precision not in PRECISIONS:
        raise UsageError(
            f"the cpu target has no {precision.value} artifact; expected int8 or fp32 (bf16 is a way to open fp32)"
        )
    ov = require("openvino", "openvino")
    graph = load_graph(canonical)
    model = build(graph, precision)
    spec = input_spec(graph, precision)
    write_model_info(model, graph.metadata, spec)
    folder = into / FOLDER
    folder.mkdir(exist_ok=True)
    ov.serialize(model, str(folder / XML), str(folder / BIN))
    outputs = tuple(
        TensorSpec(name=name, shape=graph.shapes[name], dtype="float32", layout="NCHW") for name in graph.outputs
    )
    return Artifact(
        path=FOLDER, sha256=sha256_of(folder), bytes=bytes_of(folder), target="cpu", precision=precision,
        inputs=(spec,), outputs=outputs, toolchain={"openvino": ov.__version__},
        parent_sha256=sha256_of(canonical),
        notes=(*NOTES, *Islands(graph.islands).notes()) if precision is Precision.INT8 else TWIN_NOTES,
    )  # fmt: skip


def build(graph: CanonicalGraph, precision: Precision) -> Any:
    """The openvino.Model of a canonical graph, or of its float twin."""
    quantized = precision is Precision.INT8
    source = graph if quantized else view_graph(strip_qdq(graph))
    ir = IrGraph(source, frame_input=quantized)
    for node in source.nodes:
        lower_node(node, ir)
    return ir.finish()


def input_spec(graph: CanonicalGraph, precision: Precision) -> TensorSpec:
    """What the artifact takes: the raw u8 frame for INT8, the canonical float input otherwise."""
    shape = graph.shapes[graph.input]
    if precision is not Precision.INT8:
        return TensorSpec(name=graph.input, shape=shape, dtype="float32", layout="NCHW")
    n, c, h, w = shape
    scale = graph.metadata.preprocess.scale
    return TensorSpec(name=graph.input, shape=(n, h, w, c), dtype="uint8", layout="NHWC", scale=scale, zero_point=128)
