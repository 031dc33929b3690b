"""Ops that join, cut, move or repeat values as OpenVINO operators."""

from __future__ import annotations

import numpy as np

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.openvino.ir import STEP, IrGraph


def Concat(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Concatenation along `axis`."""
    ir.put(node, ir.ops.concat(ir.values(node), int(node.attributes["axis"])))


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
    """Constant starts, ends, axes and steps; a step of -1 reverses."""
    starts, ends = (ir.graph.constant(name, node).astype(np.int64) for name in node.inputs[1:3])
    axes = ir.graph.constant(node.inputs[3], node) if len(node.inputs) > 3 else np.arange(len(starts))
    steps = ir.graph.constant(node.inputs[4], node) if len(node.inputs) > 4 else np.ones(len(starts))
    ends = np.clip(ends, -(2**31), 2**31 - 1)  # exporters write int64's limits, which the plugin's int32 turns round
    x = ir.value(node.inputs[0], node)
    ir.put(node, ir.ops.slice(x, starts, ends, steps.astype(np.int64), axes.astype(np.int64)))


def Split(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """One Slice per output, named as it."""
    x = ir.value(node.inputs[0], node)
    axis = int(node.attributes.get("axis", 0)) % len(ir.graph.shapes[node.inputs[0]])
    start, one, along = 0, np.array([1], np.int64), np.array([axis], np.int64)
    for output in node.outputs:
        end = start + ir.graph.shapes[output][axis]
        piece = ir.ops.slice(x, np.array([start], np.int64), np.array([end], np.int64), one, along)
        ir.made[output] = ir.name(piece, output)
        start = end


def Gather(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Constant indices along one axis."""
    indices = ir.ops.constant(ir.graph.constant(node.inputs[1], node).astype(np.int64))
    axis = ir.ops.constant(np.int64(int(node.attributes.get("axis", 0))))
    ir.put(node, ir.ops.gather(ir.value(node.inputs[0], node), indices, axis))


def Expand(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Repeated to the static output shape."""
    shape = np.array(ir.graph.shapes[node.output], np.int64)
    ir.put(node, ir.ops.broadcast(ir.value(node.inputs[0], node), shape))


def Transpose(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Constant permutation."""
    rank = len(ir.graph.shapes[node.inputs[0]])
    permutation = np.array(node.ints("perm", tuple(reversed(range(rank)))), np.int64)
    ir.put(node, ir.ops.transpose(ir.value(node.inputs[0], node), permutation))


def Reshape(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Reshape, Flatten, Squeeze, Unsqueeze: to the static output shape."""
    x, shape = ir.value(node.inputs[0], node), ir.graph.shapes[node.output]
    if _splits_channels(ir.graph.shapes[node.inputs[0]], shape):
        *parts, height, width = shape
        rows = ir.name(ir.ops.transpose(x, np.array([0, 2, 3, 1], np.int64)), f"{node.output}{STEP}rows")
        split = ir.ops.reshape(rows, np.array([height, width, *parts], np.int64), False)
        split = ir.name(split, f"{node.output}{STEP}split")
        back = np.array([*range(2, len(shape)), 0, 1], np.int64)
        ir.put(node, ir.ops.transpose(split, back))
        return
    ir.put(node, ir.ops.reshape(x, np.array(shape, np.int64), False))


def _splits_channels(before: tuple[int, ...], after: tuple[int, ...]) -> bool:
    """(1, C, H, W) -> (a, b, c, H, W): the beginning of a depth to space. Written over channels-last, as convolutions
    leave them in memory, it costs nothing: OpenVINO makes one transpose of it and of the one that follows. Written as
    it stands, all is brought to channels-first before: 6 % of a network of eleven classes at 256x352."""
    return len(before) == 4 and len(after) == 5 and before[0] == 1 and before[2:] == after[3:]


def Identity(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Another name for its input."""
    ir.made[node.output] = ir.value(node.inputs[0], node)
