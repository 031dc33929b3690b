"""ONNX op type -> function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.core.registry import registry
from edge_unet.targets.coreml.build import Build
from edge_unet.targets.coreml.ops import pointwise, quantization, shaping, windowed

Op = Callable[[Build, Node], Any]
"""Emits MIL for one node and returns the variable of its output (a tuple where it has several)."""

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
        ("Flatten", shaping.reshape),
        ("Gelu", pointwise.gelu),
        ("Gemm", pointwise.gemm),
        ("GlobalAveragePool", windowed.global_average_pool),
        ("HardSigmoid", pointwise.hard_sigmoid),
        ("HardSwish", pointwise.hard_swish),
        ("Identity", shaping.identity),
        ("LayerNormalization", pointwise.layer_normalization),
        ("MatMul", pointwise.matmul),
        ("MaxPool", windowed.max_pool),
        ("Mul", pointwise.mul),
        ("Pad", shaping.pad),
        ("QuantizeLinear", quantization.quantize_linear),
        ("ReduceMean", pointwise.reduce_mean),
        ("Relu", pointwise.relu),
        ("Reshape", shaping.reshape),
        ("Resize", windowed.resize),
        ("Sigmoid", pointwise.sigmoid),
        ("Slice", shaping.slice_),
        ("Softmax", pointwise.softmax),
        ("Split", shaping.split),
        ("Squeeze", shaping.reshape),
        ("Sub", pointwise.sub),
        ("Tanh", pointwise.tanh),
        ("Transpose", shaping.transpose),
        ("Unsqueeze", shaping.reshape),
    ]
)


def lower_node(build: Build, node: Node) -> None:
    """Emit one node. Raises GraphError naming the node where its op is unknown."""
    function: Op | None = OPS.get(node.op)
    if function is None:
        raise GraphError(
            f"Core ML: no lowering for op {node.op!r} (node {node.name!r}); known ops: {', '.join(OPS)}; "
            "add a function to edge_unet/targets/coreml/ops or change the layer"
        )
    result = function(build, node)
    outputs = result if isinstance(result, tuple) else (result,)
    build.values.update(zip(node.outputs, outputs, strict=True))
