"""The op table: canonical ONNX node -> OpenVINO operators. One function per op, named as the op."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import CanonicalGraph, Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.grids import one_grid
from edge_unet.targets.openvino.ir import MARK, IrGraph

Op = Callable[[Node, IrGraph], None]

MOVES = frozenset({"Concat", "MaxPool", "Slice", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
"""Ops that choose among the values of their inputs."""

UNARY = frozenset({"Clip", "Relu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Sqrt"})
BINARY = frozenset({"Add", "Sub", "Mul", "Div"})
"""Elementwise ops that the plugin fuses into the conv in front of them."""

THIN = 8
"""Up to this many channels a linear x2 Resize is faster as two matrix products (128 to 256 on one AVX512-VNNI core:
1 channel 0.17 ms against 1.7 ms of Interpolate, 8 channels 1.6 against 2.5)."""


def QuantizeLinear(node: Node, ir: IrGraph) -> None:  # noqa: N802 - named as the op
    """FakeQuantize named as the canonical tensor. The input's reads u8 pixels 0..255 as they come."""
    grid = ir.graph.activations[node.output]
    if grid.zero_point != 0 or grid.scale.size != 1:
        raise GraphError(f"node {node.name!r}: expected int8 per tensor with zero point 0, received {grid}")
    x = ir.value(node.inputs[0], node)
    maker = ir.graph.producers.get(node.inputs[0])
    if maker is not None and moves_integers(maker) and one_grid(ir.graph, maker) is not None:
        ir.put(node, x, node.output)  # its inputs lie on this grid already: rounding again would be a pass for nothing
        return
    if node.inputs[0] != ir.graph.input:
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


def moves_integers(node: Node) -> bool:
    """Whether a node's output values are all values of its inputs."""
    if node.op == "Resize":
        return bool(node.attributes.get("mode", "nearest") == "nearest")
    if node.op == "Pad":
        return bool(node.attributes.get("mode", "constant") != "constant")
    return node.op in MOVES


def DequantizeLinear(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Nothing to compute: FakeQuantize gives real values. Weights are made where a conv reads them."""
    if node.output not in ir.graph.weights:
        ir.made[node.output] = ir.value(node.inputs[0], node)


def _spatial(node: Node) -> tuple[list[int], list[int], list[int], list[int]]:
    """(strides, pads before, pads after, dilations) of a conv."""
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise GraphError(f"node {node.name!r} ({node.op}): auto_pad is not supported; export with explicit pads")
    pads = node.ints("pads", (0, 0, 0, 0))
    return list(node.ints("strides", (1, 1))), list(pads[:2]), list(pads[2:]), list(node.ints("dilations", (1, 1)))


def _biased(node: Node, made: Any, ir: IrGraph) -> None:
    """Name the conv as its node and add its bias, if any."""
    ir.put(node, made)
    if len(node.inputs) > 2:
        bias = ir.graph.constant(node.inputs[2], node).reshape(1, -1, 1, 1)  # (1, C, 1, 1)
        biased = ir.ops.add(made, ir.name(ir.ops.constant(bias), node.inputs[2]))
        ir.put(node, biased, f"{node.name}{MARK}biased")


def Conv(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """2-D convolution; grouped where group > 1."""
    strides, before, after, dilations = _spatial(node)
    groups = int(node.attributes.get("group", 1))
    cout, cin, *kernel = _weight_shape(node, ir)
    shape = (cout, cin, *kernel) if groups == 1 else (groups, cout // groups, cin, *kernel)
    weight = ir.weight(node.inputs[1], node, shape)
    make = ir.ops.convolution if groups == 1 else ir.ops.group_convolution
    _biased(node, make(ir.value(node.inputs[0], node), weight, strides, before, after, dilations), ir)


def ConvTranspose(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """2-D transposed convolution without groups (weights IOHW in both formats)."""
    if int(node.attributes.get("group", 1)) != 1 or any(node.ints("output_padding", (0, 0))):
        raise GraphError(f"node {node.name!r} (ConvTranspose): expected group 1 and no output_padding")
    strides, before, after, dilations = _spatial(node)
    weight = ir.weight(node.inputs[1], node, _weight_shape(node, ir))
    made = ir.ops.convolution_backprop_data(
        ir.value(node.inputs[0], node), weight, strides, pads_begin=before, pads_end=after, dilations=dilations
    )
    _biased(node, made, ir)


def _weight_shape(node: Node, ir: IrGraph) -> tuple[int, ...]:
    """Shape of a conv's weight, which must be 2-D and constant."""
    name = node.inputs[1]
    weight = ir.graph.weights.get(name)
    shape = weight.values.shape if weight is not None else ir.graph.constant(name, node).shape
    if len(shape) != 4:
        raise GraphError(f"node {node.name!r} ({node.op}): expected a 2-D kernel, received weight shape {shape}")
    return tuple(int(size) for size in shape)


def Clip(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Clamp with constant bounds."""
    bounds = [float(ir.graph.constant(name, node)) if name else None for name in node.inputs[1:3]]
    low = -np.inf if not bounds or bounds[0] is None else bounds[0]
    high = np.inf if len(bounds) < 2 or bounds[1] is None else bounds[1]
    ir.put(node, ir.ops.clamp(ir.value(node.inputs[0], node), float(low), float(high)))


def Concat(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Concatenation along `axis`."""
    ir.put(node, ir.ops.concat(ir.values(node), int(node.attributes["axis"])))


def MaxPool(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """2-D max pooling without dilation."""
    strides, before, after, dilations = _spatial(node)
    if dilations != [1, 1]:
        raise GraphError(f"node {node.name!r} (MaxPool): expected dilations 1, received {dilations}")
    x, kernel = ir.value(node.inputs[0], node), list(node.ints("kernel_shape", ()))
    ir.put(node, ir.first_ops.max_pool(x, strides, before, after, kernel, _rounding(node)))


def AveragePool(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """2-D average pooling."""
    strides, before, after, _ = _spatial(node)
    kernel, rounding = list(node.ints("kernel_shape", ())), _rounding(node)
    exclude = not int(node.attributes.get("count_include_pad", 0))
    ir.put(node, ir.ops.avg_pool(ir.value(node.inputs[0], node), strides, before, after, kernel, exclude, rounding))


def _rounding(node: Node) -> str:
    return "ceil" if int(node.attributes.get("ceil_mode", 0)) else "floor"


def GlobalAveragePool(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Mean over H and W, kept as 1x1."""
    ir.put(node, ir.ops.reduce_mean(ir.value(node.inputs[0], node), np.array([2, 3], np.int64), True))


def ReduceMean(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Mean over constant axes."""
    axes = ir.graph.constant(node.inputs[1], node).astype(np.int64)
    keep = bool(node.attributes.get("keepdims", 1))
    ir.put(node, ir.ops.reduce_mean(ir.value(node.inputs[0], node), axes, keep))


def Resize(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Nearest or half-pixel linear over H and W, to the static output size."""
    mode = str(node.attributes.get("mode", "nearest"))
    place = str(node.attributes.get("coordinate_transformation_mode", "half_pixel"))
    if mode not in ("nearest", "linear") or place not in ("half_pixel", "pytorch_half_pixel", "asymmetric"):
        raise GraphError(
            f"node {node.name!r} (Resize): {mode} with {place} coordinates; expected nearest or linear, with "
            "half_pixel or asymmetric coordinates (align_corners differs between runtimes)"
        )
    height, width = ir.graph.shapes[node.output][2:]
    if mode == "linear" and _is_half_pixel_twice(node, ir) and ir.graph.shapes[node.output][1] <= THIN:
        _linear_twice(node, ir)
        return
    made = ir.ops.interpolate(
        ir.value(node.inputs[0], node),
        np.array([height, width], np.int64),
        "nearest" if mode == "nearest" else "linear_onnx",
        "sizes",
        coordinate_transformation_mode=place,
        nearest_mode=str(node.attributes.get("nearest_mode", "round_prefer_floor")),
        axes=np.array([2, 3], np.int64),
    )
    ir.put(node, made)  # (N, C, height, width)


def _is_half_pixel_twice(node: Node, ir: IrGraph) -> bool:
    """Whether a Resize doubles H and W with half-pixel centres."""
    before, after = ir.graph.shapes[node.inputs[0]], ir.graph.shapes[node.output]
    half_pixel = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    doubled = after == (*before[:2], 2 * before[2], 2 * before[3])
    return doubled and half_pixel in ("half_pixel", "pytorch_half_pixel")


def _linear_twice(node: Node, ir: IrGraph) -> None:
    """Columns, then rows, as matrix products; rows in blocks that share one small matrix.

    On int8 codes times a scale of 11 bits every product and sum is exact in float32, in any order.
    """
    channels, height, width = ir.graph.shapes[node.inputs[0]][1:]
    x = ir.value(node.inputs[0], node)
    columns = np.ascontiguousarray(doubling(width).T)  # (W, 2W)
    wide = ir.ops.matmul(x, ir.ops.constant(columns), False, False)  # (1, C, H, 2W)
    block = max(size for size in range(1, 17) if height % size == 0)
    reach = np.arange(-1, block + 1)  # a block and the row on either side, edges repeated
    places = np.clip(np.arange(0, height, block)[:, None] + reach, 0, height - 1).astype(np.int64)
    blocks = ir.ops.gather(wide, ir.ops.constant(places), ir.ops.constant(np.int64(2)))  # (1, C, H/b, b+2, 2W)
    inner = doubling(block + 2)[2:-2]  # (2b, b+2)
    tall = ir.ops.matmul(ir.ops.constant(np.ascontiguousarray(inner)), blocks, False, False)  # (1, C, H/b, 2b, 2W)
    shape = np.array([1, channels, 2 * height, 2 * width], np.int64)
    ir.put(node, ir.ops.reshape(tall, shape, False))  # (1, C, 2H, 2W)


def doubling(size: int) -> NDArray[np.float32]:
    """(2 size, size) matrix of half-pixel linear x2: 3/4 of the own pixel, 1/4 of the nearer neighbour, edges
    repeated."""
    place = np.arange(2 * size)
    own = place // 2
    neighbour = np.clip(own + 2 * (place % 2) - 1, 0, size - 1)
    matrix = np.zeros((2 * size, size), np.float32)
    np.add.at(matrix, (place, own), np.float32(0.75))
    np.add.at(matrix, (place, neighbour), np.float32(0.25))
    return matrix


def Pad(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Constant, edge or reflect padding by constant amounts over all axes."""
    if len(node.inputs) > 3 and node.inputs[3]:
        raise GraphError(f"node {node.name!r} (Pad): expected pads for every axis, received an axes input")
    pads = ir.graph.constant(node.inputs[1], node).astype(np.int64)
    value = ir.graph.constant(node.inputs[2], node) if len(node.inputs) > 2 and node.inputs[2] else np.float32(0)
    before, after = np.split(pads, 2)
    x = ir.value(node.inputs[0], node)
    ir.put(node, ir.ops.pad(x, before, after, str(node.attributes.get("mode", "constant")), np.float32(value)))


def Slice(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Constant starts, ends, axes and steps."""
    starts, ends = (ir.graph.constant(name, node).astype(np.int64) for name in node.inputs[1:3])
    axes = ir.graph.constant(node.inputs[3], node) if len(node.inputs) > 3 else np.arange(len(starts))
    steps = ir.graph.constant(node.inputs[4], node) if len(node.inputs) > 4 else np.ones(len(starts))
    x = ir.value(node.inputs[0], node)
    ir.put(node, ir.ops.slice(x, starts, ends, steps.astype(np.int64), axes.astype(np.int64)))


def Transpose(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Constant permutation."""
    rank = len(ir.graph.shapes[node.inputs[0]])
    permutation = np.array(node.ints("perm", tuple(reversed(range(rank)))), np.int64)
    ir.put(node, ir.ops.transpose(ir.value(node.inputs[0], node), permutation))


def Reshape(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Reshape, Flatten, Squeeze, Unsqueeze: to the static output shape."""
    shape = np.array(ir.graph.shapes[node.output], np.int64)
    ir.put(node, ir.ops.reshape(ir.value(node.inputs[0], node), shape, False))


def Identity(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Another name for its input."""
    ir.made[node.output] = ir.value(node.inputs[0], node)


def HardSigmoid(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """clamp(alpha x + beta, 0, 1)."""
    alpha, beta = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
    ir.put(node, ir.ops.hard_sigmoid(ir.value(node.inputs[0], node), np.float32(alpha), np.float32(beta)))


def Softmax(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Softmax over one axis."""
    rank = len(ir.graph.shapes[node.inputs[0]])
    ir.put(node, ir.ops.softmax(ir.value(node.inputs[0], node), int(node.attributes.get("axis", -1)) % rank))


def MatMul(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Matrix product."""
    ir.put(node, ir.ops.matmul(*ir.values(node), False, False))


def LayerNormalization(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Mean-variance normalisation over the last axes, then scale and bias."""
    rank = len(ir.graph.shapes[node.inputs[0]])
    axes = np.arange(int(node.attributes.get("axis", -1)) % rank, rank, dtype=np.int64)
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    x, *affine = ir.values(node)
    made = ir.ops.mvn(x, ir.ops.constant(axes), True, epsilon, "inside_sqrt")
    made = ir.ops.multiply(made, affine[0])
    ir.put(node, ir.ops.add(made, affine[1]) if len(affine) > 1 else made)


def _same_name(operator: str) -> Op:
    """An op whose OpenVINO twin takes the same inputs and has no attributes."""

    def lower(node: Node, ir: IrGraph) -> None:
        ir.put(node, getattr(ir.ops, operator)(*ir.values(node)))

    return lower


OPS: Mapping[str, Op] = {
    op.__name__: op
    for op in (
        QuantizeLinear, DequantizeLinear, Conv, ConvTranspose, Clip, Concat, MaxPool, AveragePool, GlobalAveragePool,
        ReduceMean, Resize, Pad, Slice, Transpose, Reshape, Identity, HardSigmoid, Softmax, MatMul, LayerNormalization,
    )
} | dict.fromkeys(("Flatten", "Squeeze", "Unsqueeze"), Reshape) | {
    "Relu": _same_name("relu"), "Sigmoid": _same_name("sigmoid"), "Tanh": _same_name("tanh"),
    "HardSwish": _same_name("hswish"), "Add": _same_name("add"), "Sub": _same_name("subtract"),
    "Mul": _same_name("multiply"), "Div": _same_name("divide"), "Sqrt": _same_name("sqrt"),
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
