"""The op table: one function per ONNX op. To add an op, write the function and give it a line here."""

from __future__ import annotations

from collections.abc import Callable

from edge_unet.canonical import Node
from edge_unet.core.registry import registry
from edge_unet.targets.tflite import ops_conv, ops_math, ops_shape
from edge_unet.targets.tflite.build import Build

Op = Callable[[Build, Node], None]


def identity(b: Build, node: Node) -> None:
    """Identity and DequantizeLinear of an activation: another name for the same tensor."""
    if node.output not in b.graph.weights:
        b.bind((node.output,), b.value(node.inputs[0], node))


def quantize_linear(b: Build, node: Node) -> None:
    """A QuantizeLinear that no op in front took in: the same tensor again, or a QUANTIZE to another grid."""
    value, grid = b.value(node.inputs[0], node), b.graph.activations[node.output]
    if value.grid is not None and value.grid.scale == grid.scale and value.grid.zero_point == grid.zero_point:
        b.bind((node.inputs[0], node.output), value)
        return
    b.requantize(value, node.output, grid)


OPS = registry(
    (
        ("Add", ops_math.add),
        ("AveragePool", ops_conv.average_pool),
        ("Clip", ops_math.clip),
        ("Concat", ops_shape.concat),
        ("Conv", ops_conv.conv),
        ("ConvTranspose", ops_conv.conv_transpose),
        ("DequantizeLinear", identity),
        ("Flatten", ops_shape.reshape),
        ("GlobalAveragePool", ops_conv.global_average_pool),
        ("HardSigmoid", ops_math.hard_sigmoid),
        ("Identity", identity),
        ("LayerNormalization", ops_math.layer_normalization),
        ("MatMul", ops_math.mat_mul),
        ("MaxPool", ops_conv.max_pool),
        ("Mul", ops_math.mul),
        ("Pad", ops_shape.pad),
        ("QuantizeLinear", quantize_linear),
        ("Relu", ops_math.clip),
        ("Reshape", ops_shape.reshape),
        ("Resize", ops_shape.resize),
        ("Sigmoid", ops_math.sigmoid),
        ("Slice", ops_shape.slice_),
        ("Softmax", ops_math.softmax),
        ("Squeeze", ops_shape.reshape),
        ("Sub", ops_math.sub),
        ("Transpose", ops_shape.transpose),
        ("Unsqueeze", ops_shape.reshape),
    )
)
"""ONNX op type -> the function that writes it."""
