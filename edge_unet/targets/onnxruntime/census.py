"""Layers by precision in a graph that ONNX Runtime wrote after its optimizations.

One integer kernel may appear inside a float island: MatMulIntegerToFloat, the product of two tensors that come
dequantized into it. Its int32 sums times a power of two are the float sums, bit for bit; nothing is rounded.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from edge_unet.core.artifact import LayerPlacement
from edge_unet.targets.islands import Islands

NOT_LAYERS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Cast", "Constant", "Identity", "Reshape", "Transpose", "Squeeze"}
    | {"Unsqueeze", "Flatten", "ReorderInput", "ReorderOutput", "DepthToSpace", "SpaceToDepth", "Slice", "Split", "Pad"}
    | {"Clip", "Relu"}
)
"""Ops that only change type, order or extent, and activations: other runtimes count those with their conv."""

INTEGERS = (int(TensorProto.INT8), int(TensorProto.UINT8))
TO_FLOAT = frozenset({"DequantizeLinear", "MatMulIntegerToFloat"})
"""Ops on integers whose results are real numbers."""


def executed_layers(model: onnx.ModelProto, islands: Islands) -> tuple[LayerPlacement, ...]:
    """One placement per layer, in execution order. The op of a fused kernel is the plain one (QLinearConv -> Conv);
    the kernel's own name is the unit, with the float island that it belongs to."""
    types = {i.name: int(i.data_type) for i in model.graph.initializer}
    types |= {i.name: int(i.type.tensor_type.elem_type) for i in model.graph.input}
    layers = []
    for node in model.graph.node:
        types.update(dict.fromkeys(node.output, _output_type(node, types)))
        if node.op_type in NOT_LAYERS:
            continue
        integer = node.op_type.startswith("QLinear") or types.get(node.input[0]) in INTEGERS
        plain = node.op_type.removeprefix("QLinear").removeprefix("Nhwc").removeprefix("Fused")
        unit = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        layers.append(
            LayerPlacement(
                name=node.name,
                op=plain.removesuffix("IntegerToFloat"),
                precision="int8" if integer else "fp32",
                unit=f"CPU {unit}{islands.note([node.name])}",
            )
        )
    return tuple(layers)


def _output_type(node: onnx.NodeProto, types: dict[str, int]) -> int:
    """Element type of a node's output, enough to tell u8 and s8 tensors from float ones."""
    if node.op_type in TO_FLOAT:
        return int(TensorProto.FLOAT)
    if node.op_type == "QuantizeLinear":
        return types.get(node.input[2], int(TensorProto.UINT8)) if len(node.input) > 2 else int(TensorProto.UINT8)
    if node.op_type.startswith("QLinear"):
        return int(TensorProto.UINT8)
    if node.op_type == "Cast":
        return int(next(helper.get_attribute_value(a) for a in node.attribute if a.name == "to"))
    return types.get(node.input[0], int(TensorProto.FLOAT)) if node.input else int(TensorProto.FLOAT)
