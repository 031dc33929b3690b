"""The op table: canonical ONNX node -> OpenVINO operators. One function per op, named as the op."""

from __future__ import annotations

from collections.abc import Mapping

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.openvino import ops_conv, ops_math, ops_quantize, ops_resize, ops_shape
from edge_unet.targets.openvino.ir import IrGraph
from edge_unet.targets.openvino.ops_math import Op, reduction, same_name

OPS: Mapping[str, Op] = {
    op.__name__: op
    for op in (
        ops_quantize.QuantizeLinear, ops_quantize.DequantizeLinear,
        ops_conv.Conv, ops_conv.ConvTranspose, ops_conv.MaxPool, ops_conv.AveragePool,
        ops_math.Clip, ops_math.Gelu, ops_math.GlobalAveragePool, ops_math.GlobalMaxPool, ops_math.HardSigmoid,
        ops_math.LayerNormalization, ops_math.MatMul, ops_math.Softmax, ops_resize.Resize,
        ops_shape.Concat, ops_shape.Expand, ops_shape.Gather, ops_shape.Identity, ops_shape.Pad, ops_shape.Reshape,
        ops_shape.Slice, ops_shape.Split, ops_shape.Transpose,
    )
} | dict.fromkeys(("Flatten", "Squeeze", "Unsqueeze"), ops_shape.Reshape) | {
    "ReduceMax": reduction("reduce_max"), "ReduceMean": reduction("reduce_mean"),
    "ReduceSum": reduction("reduce_sum"),
} | {
    "Relu": same_name("relu"), "Sigmoid": same_name("sigmoid"), "Tanh": same_name("tanh"),
    "HardSwish": same_name("hswish"), "Add": same_name("add"), "Sub": same_name("subtract"),
    "Mul": same_name("multiply"), "Div": same_name("divide"), "Sqrt": same_name("sqrt"), "Exp": same_name("exp"),
    "Log": same_name("log"), "Neg": same_name("negative"), "Softplus": same_name("softplus"), "Erf": same_name("erf"),
}  # fmt: skip
"""ONNX op type -> its lowering."""


def lower_node(node: Node, ir: IrGraph) -> None:
    """Lower one node. Raises GraphError for an op that the table lacks."""
    if node.op not in OPS:
        raise GraphError(
            f"node {node.name!r} ({node.op}): the cpu target has no lowering for it; "
            f"known ops: {', '.join(sorted(OPS))}"
        )
    OPS[node.op](node, ir)
