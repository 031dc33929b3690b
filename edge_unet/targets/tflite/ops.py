"""The op table: one function per ONNX op. To add an op, write the function and give it a line here."""

from __future__ import annotations

from collections.abc import Callable

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.core.registry import registry
from edge_unet.targets.tflite import ops_conv, ops_math, ops_reduce, ops_shape, ops_slice, ops_unary
from edge_unet.targets.tflite.build import Build, Destination, same_grid

Op = Callable[[Build, Node], None]


def identity(b: Build, node: Node) -> None:
    """Identity and DequantizeLinear of an activation: another name for the same tensor."""
    if node.output not in b.graph.weights:
        b.bind((node.output,), b.values[node.inputs[0]])


def quantize_linear(b: Build, node: Node) -> None:
    """A QuantizeLinear that no op in front took in: the exit of an island or another grid (QUANTIZE), or the same
    tensor again."""
    name, grid = node.inputs[0], b.graph.activations[node.output]
    if name not in b.values:
        raise GraphError(f"node {node.name!r} (QuantizeLinear): nothing makes its input {name!r}; export it again")
    value = b.values[name]
    if same_grid(value.grid, grid):
        b.bind((node.output,), value)
    else:
        b.quantize(value, Destination((node.output,), value.standing, grid, "NONE"))


OPS = registry(
    (
        ("Add", ops_math.add),
        ("AveragePool", ops_conv.average_pool),
        ("Clip", ops_unary.clip),
        ("Concat", ops_shape.concat),
        ("Conv", ops_conv.conv),
        ("ConvTranspose", ops_conv.conv_transpose),
        ("DequantizeLinear", identity),
        ("Div", ops_math.div),
        ("Exp", ops_unary.exp),
        ("Expand", ops_slice.expand),
        ("Flatten", ops_shape.reshape),
        ("Gather", ops_slice.gather),
        ("Gelu", ops_unary.gelu),
        ("GlobalAveragePool", ops_conv.global_average_pool),
        ("GlobalMaxPool", ops_reduce.global_max_pool),
        ("HardSigmoid", ops_unary.hard_sigmoid),
        ("HardSwish", ops_unary.hard_swish),
        ("Identity", identity),
        ("LayerNormalization", ops_math.layer_normalization),
        ("Log", ops_unary.log),
        ("MatMul", ops_math.mat_mul),
        ("MaxPool", ops_conv.max_pool),
        ("Mul", ops_math.mul),
        ("Neg", ops_unary.neg),
        ("Pad", ops_slice.pad),
        ("QuantizeLinear", quantize_linear),
        ("ReduceMax", ops_reduce.reduce_max),
        ("ReduceMean", ops_reduce.reduce_mean),
        ("ReduceSum", ops_reduce.reduce_sum),
        ("Relu", ops_unary.clip),
        ("Reshape", ops_shape.reshape),
        ("Resize", ops_shape.resize),
        ("Sigmoid", ops_unary.sigmoid),
        ("Slice", ops_slice.slice_),
        ("Softmax", ops_unary.softmax),
        ("Softplus", ops_unary.softplus),
        ("Split", ops_slice.split),
        ("Sqrt", ops_unary.sqrt),
        ("Squeeze", ops_shape.reshape),
        ("Sub", ops_math.sub),
        ("Tanh", ops_unary.tanh),
        ("Transpose", ops_shape.transpose),
        ("Unsqueeze", ops_shape.reshape),
    )
)
"""ONNX op type -> the function that writes it."""
