"""QuantizeLinear and DequantizeLinear as OpenVINO operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_unet.canonical import CanonicalGraph, Node
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import GraphError
from edge_unet.targets.grids import same_grid
from edge_unet.targets.openvino.ir import IrGraph

MOVES = frozenset(
    {"Concat", "MaxPool", "GlobalMaxPool", "ReduceMax", "Slice", "Split", "Transpose", "Reshape", "Flatten", "Squeeze",
     "Unsqueeze", "Identity"}
)  # fmt: skip
"""Ops that choose among the values of their inputs."""

UNARY = frozenset({"Clip", "Relu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Sqrt"})
BINARY = frozenset({"Add", "Sub", "Mul", "Div"})
"""Elementwise ops that the plugin fuses into the conv in front of them."""

CURVED = frozenset({"Gelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh"})
"""Ops whose results lie anywhere between two steps, as those of float islands do."""


def QuantizeLinear(node: Node, ir: IrGraph) -> None:  # noqa: N802 - named as the op
    """FakeQuantize named as the canonical tensor. The input's reads u8 pixels 0..255 as they come."""
    grid = ir.graph.activations[node.output]
    if grid.zero_point != 0 or grid.scale.size != 1:
        raise GraphError(f"node {node.name!r}: expected int8 per tensor with zero point 0, received {grid}")
    x = ir.value(node.inputs[0], node)
    maker = ir.graph.producers.get(node.inputs[0])
    if maker is not None and _moves_integers(maker, ir.graph) and _on_this_grid(maker, grid, ir.graph):
        ir.put(node, x, node.output)  # its inputs lie on this grid already: rounding again would be a pass for nothing
        return
    if node.inputs[0] != ir.graph.input:
        if maker is not None and (_leaves_island(maker, ir.graph) or maker.op in CURVED):
            x = _rounded(x, grid, ir)
        ir.put(node, ir.fake_quantize(x, grid), node.output)
        if _loses_rounding(node, ir.graph):
            ir.made[node.output] = ir.ops.prelu(ir.made[node.output], np.array([1], np.float32))
        return
    preprocess = ir.graph.metadata.preprocess
    if preprocess.mean != 128 or np.float32(preprocess.scale) != np.float32(grid.scale):
        raise GraphError(
            f"node {node.name!r}: the input quantizer has scale {float(grid.scale)}, but frames are normalised with "
            f"mean {preprocess.mean} and scale {preprocess.scale}; expected mean 128 and equal scales"
        )
    ir.put(node, ir.fake_quantize(x, grid, 0, 255), node.output)


def _leaves_island(maker: Node, graph: CanonicalGraph) -> bool:
    """Whether a float island ends here. Not one that is a lone sum: the plugin would fuse it with the rounding into one
    kernel that no longer bears the island's name, and the census would lose it."""
    return graph.island(maker) is not None and maker.op != "Add"


def _rounded(x: Any, grid: Grid, ir: IrGraph) -> Any:
    """`x` on the grid before FakeQuantize sees it. FakeQuantize rounds x / scale + 128 in float32, whose last bit is
    1.5e-5 of a step by then: one value in 70,000 of a smooth function falls on the other side of a tie."""
    scale = np.float32(grid.scale.reshape(()))
    if np.frexp(scale)[0] != 0.5:
        return x  # dividing by other than a power of two would round itself
    steps = ir.ops.round(ir.ops.multiply(x, np.float32(1) / scale), "half_to_even")
    return ir.ops.multiply(steps, scale)


def _on_this_grid(maker: Node, grid: Grid, graph: CanonicalGraph) -> bool:
    """Whether all that the node reads lies on this grid."""
    before = [graph.quantized(name) for name in maker.inputs if name and name not in graph.constants]
    if maker.op == "Concat" and any(name in graph.constants for name in maker.inputs):
        return False
    return all(name is not None and same_grid(graph.activations[name], grid) for name in before)


def _loses_rounding(node: Node, graph: CanonicalGraph) -> bool:
    """Whether the plugin would fuse this FakeQuantize into a conv together with the elementwise op that reads it.

    Of two roundings fused into one conv it computes only the last: a residual Add then differs from the canonical
    integers by one step in 20 % of its codes (seen in 2026.4). A PReLU of slope 1 between the two changes no value
    and keeps the Add, with its rounding, a kernel of its own: 4 % of the latency of a 256x256 mobile_unet.
    """
    readers = [r for dq in graph.consumers.get(node.output, ()) for r in graph.consumers.get(dq.output, ())]
    maker = graph.producers.get(node.inputs[0])
    while maker is not None and maker.op in UNARY:
        maker = graph.producers.get(maker.inputs[0])
    fusible = maker is not None and maker.op in ("Conv", "ConvTranspose", "MatMul")
    return fusible and len(readers) == 1 and readers[0].op in UNARY | BINARY


def _moves_integers(node: Node, graph: CanonicalGraph) -> bool:
    """Whether a node's output values are all values of its inputs, and stand for a quantized tensor of the graph:
    inside a float island they do not."""
    if graph.island(node) is not None:
        return False
    if node.op == "Resize":
        return bool(node.attributes.get("mode", "nearest") == "nearest")
    if node.op == "Pad":
        return bool(node.attributes.get("mode", "constant") != "constant")
    return node.op in MOVES


def DequantizeLinear(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Nothing to compute: FakeQuantize gives real values. Weights are made where a conv reads them."""
    if node.output not in ir.graph.weights:
        ir.made[node.output] = ir.value(node.inputs[0], node)
