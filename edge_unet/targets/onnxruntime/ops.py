"""The op table: canonical ONNX node -> nodes that ONNX Runtime's CPU fuses into integer kernels. One function per op.

Three rewrites, none of which changes an integer:
- s8 zero point 0 becomes u8 zero point 128 (code + 128, same scale): on x64 only u8 activations fuse to QLinearConv.
- Clip and Relu in front of a QuantizeLinear move behind it, as a u8 Clip: rounding is monotone, so
  Q(clip(x, lo, hi)) = clip(Q(x), Q(lo), Q(hi)); a Conv followed by Clip would stay float. Where saturation to u8
  already clips, the Clip is dropped.
- ops that only move or compare integers of one scale (Concat, MaxPool, ReduceMax, nearest Resize, …) run on u8
  directly.
Nodes of a float island stay as they are, except that a chain of moves between two Q/DQ pairs of one scale is a move
of integers there too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from edge_unet.canonical import CanonicalGraph, Node
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import GraphError
from edge_unet.targets.grids import one_grid, quantizer

ZERO_POINT = 128
ZERO_POINT_NAME = "u8:zero_point"
INTERNAL = "u8:"
"""Prefix of tensors that the lowering adds: every other tensor has its canonical name."""


class U8Graph:
    """The nodes and constants written so far. Tensors keep their canonical names."""

    def __init__(self, graph: CanonicalGraph) -> None:
        self.graph = graph
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {ZERO_POINT_NAME: np.array(ZERO_POINT, np.uint8)}
        self.made: set[str] = set()

    def emit(
        self, op: str, inputs: list[str], output: str, name: str, attributes: Mapping[str, Any] | None = None
    ) -> str:
        """Append one node and return its output."""
        self.nodes.append(helper.make_node(op, inputs, [output], name, **dict(attributes or {})))
        self.made.add(output)
        return output

    def keep(self, node: Node) -> None:
        """Append the node as it stands, with its constant inputs."""
        proto = helper.make_node(node.op, list(node.inputs), list(node.outputs), node.name, **dict(node.attributes))
        self.nodes.append(proto)
        self.made.update(node.outputs)
        self.constants.update({i: self.graph.constants[i] for i in node.inputs if i in self.graph.constants})

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        self.constants[name] = value
        return name


Op = Callable[[Node, U8Graph], None]


def QuantizeLinear(node: Node, out: U8Graph) -> None:  # noqa: N802 - named as the op
    """Q of the canonical input becomes the layout of a raw u8 frame; other Qs get zero point 128."""
    if node.output in out.made:
        return  # an op on integers has already made it
    grid = out.graph.activations[node.output]
    if grid.zero_point != 0 or grid.scale.size != 1:
        raise GraphError(f"node {node.name!r}: expected int8 per tensor with zero point 0, received {grid}")
    if node.inputs[0] == out.graph.input:
        _check_input(node, out.graph)
        out.emit("Transpose", [out.graph.input], node.output, node.name, {"perm": [0, 3, 1, 2]})  # (N, C, H, W)
        return
    scale = out.constant(node.inputs[1], out.graph.constants[node.inputs[1]])
    clip = out.graph.producers.get(node.inputs[0])
    if clip is None or clip.op not in ("Clip", "Relu") or not _moves_behind(clip, out.graph):
        out.emit("QuantizeLinear", [node.inputs[0], scale, ZERO_POINT_NAME], node.output, node.name)
        return
    low, high = _clip_codes(clip, out.graph, grid)
    if low <= 0 and high >= 255:
        out.emit("QuantizeLinear", [clip.inputs[0], scale, ZERO_POINT_NAME], node.output, node.name)
        return
    raw = out.emit("QuantizeLinear", [clip.inputs[0], scale, ZERO_POINT_NAME], INTERNAL + node.output, node.name)
    bounds = [out.constant(f"{INTERNAL}{max(low, 0)}", np.array(max(low, 0), np.uint8))]
    if high < 255:
        bounds.append(out.constant(f"{INTERNAL}{high}", np.array(high, np.uint8)))
    out.emit("Clip", [raw, *bounds], node.output, clip.name)


def _check_input(node: Node, graph: CanonicalGraph) -> None:
    """The raw u8 frame is the quantized input only where (pixel - 128) / step is the network's input."""
    preprocess = graph.metadata.preprocess
    scale = float(graph.activations[node.output].scale)
    if preprocess.mean != ZERO_POINT or np.float32(preprocess.scale) != np.float32(scale):
        raise GraphError(
            f"node {node.name!r}: the input quantizer has scale {scale}, but frames are normalised with mean "
            f"{preprocess.mean} and scale {preprocess.scale}; expected mean {ZERO_POINT} and equal scales"
        )


def _clip_codes(clip: Node, graph: CanonicalGraph, grid: Grid) -> tuple[int, int]:
    """The u8 codes of a Clip's bounds, rounded as QuantizeLinear rounds (half to even), saturated as int8."""
    low, high = (0.0, np.inf) if clip.op == "Relu" else (-np.inf, np.inf)
    if clip.op == "Clip":
        bounds = [graph.constant(i, clip) if i else None for i in clip.inputs[1:3]]
        low = float(bounds[0]) if bounds and bounds[0] is not None else low
        high = float(bounds[1]) if len(bounds) > 1 and bounds[1] is not None else high
    codes = np.clip(np.rint(np.array([low, high], np.float32) / grid.scale), -128, 127)
    return int(codes[0]) + ZERO_POINT, int(codes[1]) + ZERO_POINT


def DequantizeLinear(node: Node, out: U8Graph) -> None:  # noqa: N802
    """Weights stay s8 per channel; activations are read with zero point 128."""
    if node.output in out.graph.weights:
        out.keep(node)
        return
    scale = out.constant(node.inputs[1], out.graph.constants[node.inputs[1]])
    out.emit("DequantizeLinear", [node.inputs[0], scale, ZERO_POINT_NAME], node.output, node.name)


def _moves_behind(clip: Node, graph: CanonicalGraph) -> bool:
    """Whether a Clip or Relu is written behind the QuantizeLinear that reads it."""
    return quantizer(graph, clip) is not None and graph.island(clip) is None


def Clip(node: Node, out: U8Graph) -> None:  # noqa: N802
    """Left to the QuantizeLinear behind it, where there is one and the Clip is no part of a float island."""
    if not _moves_behind(node, out.graph):
        out.keep(node)


def Resize(node: Node, out: U8Graph) -> None:  # noqa: N802
    """Nearest by an integer factor repeats integers; linear stays float between its Q/DQ, behind a guard."""
    places, factors = one_grid(out.graph, node), _repeat_factors(node, out.graph)
    if places is None:
        out.keep(node)
    elif factors is not None:
        _repeat(node, places[0][0], places[1], factors, out)
    elif node.attributes.get("mode") == "linear":
        _guarded(node, out.graph.activations[places[1]].scale, out)
    else:
        out.keep(node)


def _guarded(node: Node, scale: NDArray[np.float32], out: U8Graph) -> None:
    """A Clip between Resize and QuantizeLinear that changes no code: -127.75 steps round to the lowest one, -128.

    Without it ONNX Runtime 1.20 to 1.23 (seen; 1.31 no more) match DQ-Resize-Q, drop the pair and interpolate u8 with
    truncation: half a step of bias on every logit.
    """
    free = INTERNAL + node.output
    out.keep(replace(node, outputs=(free,)))
    lowest = out.constant(f"{INTERNAL}{node.name}.lowest", np.float32(-127.75) * scale.reshape(()))
    out.emit("Clip", [free, lowest], node.output, f"{node.name}.guard")


def _repeat_factors(node: Node, graph: CanonicalGraph) -> tuple[int, int] | None:
    """How often a nearest Resize repeats every row and every column, where it does nothing else."""
    before, after = graph.shapes[node.inputs[0]], graph.shapes[node.output]
    rows, columns = after[2] // before[2], after[3] // before[3]
    repeats = (
        node.attributes.get("mode", "nearest") == "nearest"
        and node.attributes.get("coordinate_transformation_mode") == "asymmetric"
        and node.attributes.get("nearest_mode") == "floor"
        and after == (*before[:2], rows * before[2], columns * before[3])
    )
    return (rows, columns) if repeats else None


def _repeat(node: Node, source: str, output: str, factors: tuple[int, int], out: U8Graph) -> None:
    """Repeat pixels, then rows, by concatenating a channels-last tensor with itself.

    The runtime keeps integer convolutions channels-last, where its Resize is 10x slower than these copies; the two
    Transposes cancel against those around the convolutions.
    """
    n, c, h, w = out.graph.shapes[node.inputs[0]]
    down, right = factors
    rows = np.array([n * h, 1, right * w * c], np.int64)
    pixels = np.array([n, down * h, right * w, c], np.int64)
    names = [f"{INTERNAL}{node.name}.{part}" for part in ("last", "pixels", "rows", "twice", "image")]
    last = out.emit("Transpose", [source], names[0], names[0], {"perm": [0, 2, 3, 1]})  # (N, H, W, C)
    wide = out.emit("Concat", [last] * right, names[1], names[1], {"axis": 3})  # (N, H, W, right*C)
    flat = out.emit("Reshape", [wide, out.constant(f"{names[2]}.to", rows)], names[2], names[2])
    tall = out.emit("Concat", [flat] * down, names[3], names[3], {"axis": 1})  # (N*H, down, right*W*C)
    image = out.emit("Reshape", [tall, out.constant(f"{names[4]}.to", pixels)], names[4], names[4])
    out.emit("Transpose", [image], output, node.name, {"perm": [0, 3, 1, 2]})  # (N, C, down*H, right*W)


def _on_integers(node: Node, out: U8Graph) -> None:
    """Run the node on u8 tensors where all of them lie on one grid; the QuantizeLinear behind it disappears."""
    places = one_grid(out.graph, node)
    if places is None:
        out.keep(node)
        return
    integers = iter(places[0])
    inputs = [i if not i or i in out.graph.constants else next(integers) for i in node.inputs]
    out.constants.update({i: out.graph.constants[i] for i in inputs if i in out.graph.constants})
    out.emit(node.op, inputs, places[1], node.name, node.attributes)


def Pad(node: Node, out: U8Graph) -> None:  # noqa: N802
    """Edge and reflect padding copy integers; constant padding stays float."""
    if node.attributes.get("mode", "constant") == "constant":
        out.keep(node)
    else:
        _on_integers(node, out)


def GlobalMaxPool(node: Node, out: U8Graph) -> None:  # noqa: N802
    """ReduceMax over H and W: the runtime has it for u8, GlobalMaxPool for floats only."""
    axes = out.constant(f"{INTERNAL}{node.name}.axes", np.array([2, 3], np.int64))
    places = one_grid(out.graph, node)
    source, output = (places[0][0], places[1]) if places is not None else (node.inputs[0], node.output)
    out.emit("ReduceMax", [source, axes], output, node.name, {"keepdims": 1})  # (N, C, 1, 1)


def _keep(node: Node, out: U8Graph) -> None:
    """Leave it between its DequantizeLinear and QuantizeLinear: the runtime fuses it or computes it in float."""
    out.keep(node)


OPS: Mapping[str, Op] = {
    "QuantizeLinear": QuantizeLinear,
    "DequantizeLinear": DequantizeLinear,
    "Clip": Clip,
    "Relu": Clip,
    "Resize": Resize,
    "Pad": Pad,
    "GlobalMaxPool": GlobalMaxPool,
    **dict.fromkeys(
        ("Concat", "MaxPool", "ReduceMax", "Slice", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten",
         "DepthToSpace", "SpaceToDepth", "Identity"), _on_integers,
    ),
    **dict.fromkeys(
        ("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Sigmoid", "HardSigmoid", "HardSwish",
         "LeakyRelu", "Tanh", "Gelu", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Softmax",
         "LayerNormalization", "Sqrt", "Exp", "Log", "Neg", "Erf", "Softplus", "Expand", "Gather", "Split", "Einsum"),
        _keep,
    ),
}  # fmt: skip
"""ONNX op type -> its lowering."""


def lower_node(node: Node, out: U8Graph) -> None:
    """Lower one node. Raises GraphError for an op that the table lacks."""
    check_op(node)
    OPS[node.op](node, out)


def check_op(node: Node) -> None:
    """Raise GraphError for an op that the table lacks."""
    if node.op not in OPS:
        raise GraphError(
            f"node {node.name!r} ({node.op}): the onnx target has no lowering for it; "
            f"known ops: {', '.join(sorted(OPS))}"
        )
