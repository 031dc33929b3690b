"""ONNX op type -> function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.core.registry import registry
from edge_unet.targets.coreml.build import MAX_RANK, Build
from edge_unet.targets.coreml.ops import pointwise, quantization, reducing, shaping, windowed

Op = Callable[[Build, Node], Any]
"""Emits MIL for one node and returns the variable of its output (a tuple where it has several)."""

FOLDING = frozenset({"Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Ops that may read and write tensors of more than MAX_RANK axes, as long as enough of these have size 1."""

OPS = registry(
    [
        ("Add", pointwise.add),
        ("AveragePool", windowed.average_pool),
        ("Clip", pointwise.clip),
        ("Concat", shaping.concat),
        ("Conv", windowed.conv),
        ("ConvTranspose", windowed.conv_transpose),
        ("DequantizeLinear", quantization.dequantize_linear),
        ("Div", pointwise.div),
        ("Erf", pointwise.erf),
        ("Exp", pointwise.exp),
        ("Expand", shaping.expand),
        ("Flatten", shaping.reshape),
        ("Gather", shaping.gather),
        ("Gelu", pointwise.gelu),
        ("Gemm", pointwise.gemm),
        ("GlobalAveragePool", reducing.global_average_pool),
        ("GlobalMaxPool", reducing.global_max_pool),
        ("HardSigmoid", pointwise.hard_sigmoid),
        ("HardSwish", pointwise.hard_swish),
        ("Identity", shaping.identity),
        ("LayerNormalization", pointwise.layer_normalization),
        ("Log", pointwise.log),
        ("MatMul", pointwise.matmul),
        ("MaxPool", windowed.max_pool),
        ("Mul", pointwise.mul),
        ("Neg", pointwise.neg),
        ("Pad", shaping.pad),
        ("QuantizeLinear", quantization.quantize_linear),
        ("ReduceMax", reducing.reduce_max),
        ("ReduceMean", reducing.reduce_mean),
        ("ReduceSum", reducing.reduce_sum),
        ("Relu", pointwise.relu),
        ("Reshape", shaping.reshape),
        ("Resize", windowed.resize),
        ("Sigmoid", pointwise.sigmoid),
        ("Slice", shaping.slice_),
        ("Softmax", pointwise.softmax),
        ("Softplus", pointwise.softplus),
        ("Split", shaping.split),
        ("Sqrt", pointwise.sqrt),
        ("Squeeze", shaping.reshape),
        ("Sub", pointwise.sub),
        ("Tanh", pointwise.tanh),
        ("Tile", shaping.tile),
        ("Transpose", shaping.transpose),
        ("Unsqueeze", shaping.reshape),
    ]
)


def _check_ranks(build: Build, node: Node) -> None:
    for name in (*filter(None, node.inputs), *node.outputs):
        if len(shape := build.shape(name)) > MAX_RANK:
            raise build.refuse(node, f"shape of {name!r}", f"at most {MAX_RANK} axes in MIL", shape)


def lower_node(build: Build, node: Node) -> None:
    """Emit one node. Raises GraphError naming the node where its op is unknown."""
    function: Op | None = OPS.get(node.op)
    if function is None:
        raise GraphError(
            f"Core ML: no lowering for op {node.op!r} (node {node.name!r}); known ops: {', '.join(OPS)}; "
            "add a function to edge_unet/targets/coreml/ops or change the layer"
        )
    if node.op not in FOLDING:
        _check_ranks(build, node)
    result = function(build, node)
    outputs = result if isinstance(result, tuple) else (result,)
    build.values.update(zip(node.outputs, outputs, strict=True))
