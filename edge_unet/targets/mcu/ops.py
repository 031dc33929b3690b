"""The op table of `mcu`: integers only. What TFLite writes in float32 elsewhere has an int8 form here, or is refused.

Ops that keep their TFLite form are taken from targets/tflite. Linear Resize is written as convolutions (resize.py),
functions of one tensor as tables of all 256 codes (lookup.py). Everything else is refused with its reason.
"""

from __future__ import annotations

import numpy as np

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.core.registry import registry
from edge_unet.targets.mcu import lookup
from edge_unet.targets.mcu.resize import resize
from edge_unet.targets.tflite import ops as tflite
from edge_unet.targets.tflite import ops_unary
from edge_unet.targets.tflite.build import Build, clip_bounds, same_grid
from edge_unet.targets.tflite.ops import Op

INTEGER = (
    "Add", "AveragePool", "Concat", "Conv", "ConvTranspose", "DequantizeLinear", "Expand", "Flatten", "Gather",
    "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "MatMul", "MaxPool", "Mul", "Pad",
    "QuantizeLinear", "ReduceMax", "ReduceMean", "Reshape", "Slice", "Softmax", "Split", "Squeeze", "Sub", "Transpose",
    "Unsqueeze",
)  # fmt: skip
"""Ops whose int8 form is the one of the other TFLite targets."""

REASONS = {
    "Div": "no int8 kernel divides",
    "LayerNormalization": "its mean and variance need float32, which this target leaves out",
    "ReduceSum": "its int8 kernel rounds on a grid that no canonical scale shares",
}
"""Ops of the other TFLite targets that this one refuses, and why."""


def clip(b: Build, node: Node) -> None:
    """Clip and Relu that no op in front could take in: as codes on one grid, as a table between two."""
    low, high = clip_bounds(b.graph, node)
    x = b.value(node.inputs[0], node)
    grids = [b.graph.activations[q.output] for q in b.graph.consumers.get(node.output, ()) if q.op == "QuantizeLinear"]
    if grids and all(same_grid(x.grid, grid) for grid in grids):
        ops_unary.clip(b, node)
        return
    lookup.table(b, node, lambda real: np.clip(real, low, high))


def _refused(op: str, reason: str) -> Op:
    def refuse(b: Build, node: Node) -> None:
        raise GraphError(
            f"node {node.name!r} ({op}): {reason}; target mcu computes in integers only: choose a network without "
            "this op, or target android or embedded-linux"
        )

    return refuse


OPS = registry(
    (
        *((name, tflite.OPS[name]) for name in INTEGER),
        *((name, lookup.lookup_of(function)) for name, function in lookup.FUNCTIONS.items()),
        ("Clip", clip),
        ("Gelu", lookup.gelu),
        ("Relu", clip),
        ("Resize", resize),
    )
)
"""ONNX op type -> the function that writes it."""

TABLE = registry((*OPS.items(), *((op, _refused(op, reason)) for op, reason in REASONS.items())))
"""`OPS`, and the refusals of ops that the other TFLite targets know."""
