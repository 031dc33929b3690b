"""Ops that pick or repeat parts of a tensor: Slice, Split, Gather, Expand, Pad. One function per ONNX op."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.build import MAX_RANK, SCRATCH, Build, Value
from edge_unet.targets.tflite.layout import joined_axes, lying, plain

MAX_PAD_RANK = 5


def slice_(b: Build, node: Node) -> None:
    """Slice -> REVERSE_V2 per axis that runs backwards, then SLICE; at steps above 1 STRIDED_SLICE.

    A step that divides its axis becomes a RESHAPE and a SLICE instead, which unlike STRIDED_SLICE stay inside XNNPACK.
    """
    value = b.value(node.inputs[0], node)
    for axis, (start, stop, step) in _ranges(b, node, value).items():
        place, size = value.order.index(axis), value.shape[value.order.index(axis)]
        count = len(range(start, stop, step))
        if count == 0:
            raise GraphError(f"node {node.name!r} (Slice): nothing is left of axis {axis} of size {size}")
        if step < 0:
            value = _reverse(b, node, value, place)
            start, step = size - 1 - start, -step
        if step == 1:
            value = _cut(b, node, value, place, start, count)
        else:
            value = _strided(b, node, value, place, (start, count, step))
    b.settle(node, value)


def split(b: Build, node: Node) -> None:
    """Split -> one SLICE per output."""
    x = b.value(node.inputs[0], node)
    axis = int(node.attributes.get("axis", 0)) % len(x.shape)
    place, start = x.order.index(axis), 0
    for output in node.outputs:
        count = b.graph.shapes[output][axis]
        if output in b.graph.consumers or output in b.graph.outputs:
            part = _cut(b, node, x, place, start, count)
            destination = b.destination(node, output=output)
            b.settle_on(destination, part)
        start += count


def gather(b: Build, node: Node) -> None:
    """Gather with constant indices -> SLICE where they are consecutive (a scalar drops its axis), else GATHER."""
    x = b.value(node.inputs[0], node)
    axis = int(node.attributes.get("axis", 0)) % len(x.shape)
    place = x.order.index(axis)
    indices = b.graph.constant(node.inputs[1], node).astype(np.int64)
    if indices.ndim > 1:
        raise GraphError(f"node {node.name!r} (Gather): indices of rank {indices.ndim}; expected a scalar or a vector")
    chosen = [int(index) % x.shape[place] for index in np.atleast_1d(indices)]
    if chosen == list(range(chosen[0], chosen[0] + len(chosen))):
        value = _cut(b, node, x, place, chosen[0], len(chosen))
    else:
        shape = (*x.shape[:place], len(chosen), *x.shape[place + 1 :])
        value = b.scratch(node.name, "gathered", shape, x.grid, x.order)
        inputs = [x.index, b.ints(node, "indices", chosen)]
        b.writer.op("GATHER", inputs, [value.index], ("GatherOptions", {"axis": place}))
    if indices.ndim == 0:
        order = tuple(other - (other > axis) for other in value.order if other != axis)
        dropped = b.scratch(node.name, "dropped", (*value.shape[:place], *value.shape[place + 1 :]), x.grid, order)
        b.reshape(value, dropped)
        value = dropped
    b.settle(node, value)


def expand(b: Build, node: Node) -> None:
    """Expand -> BROADCAST_TO."""
    x = b.value(node.inputs[0], node)
    result_shape = b.graph.shapes[node.output]
    rank, front = len(result_shape), len(result_shape) - len(x.shape)
    if rank > MAX_RANK:
        raise GraphError(f"node {node.name!r} (Expand): rank {rank}; expected at most {MAX_RANK}")
    order = (*range(front), *(axis + front for axis in x.order))
    shape = lying(result_shape, order)
    result = b.scratch(node.name, "expanded", shape, x.grid, order)
    b.writer.op("BROADCAST_TO", [x.index, b.ints(node, "to", shape)], [result.index], ("BroadcastToOptions", {}))
    b.settle(node, result)


def pad(b: Build, node: Node) -> None:
    """Pad with a constant -> PAD for zeros (in int8: the zero point), else PADV2."""
    if str(node.attributes.get("mode", "constant")) != "constant":
        raise GraphError(f"node {node.name!r} (Pad): expected mode constant, received {node.attributes['mode']!r}")
    x = b.value(node.inputs[0], node)
    rank = len(x.shape)
    given = b.graph.constant(node.inputs[1], node).astype(np.int32).reshape(2, -1).T  # (axes, before/after)
    listed = b.graph.constant(node.inputs[3], node) if len(node.inputs) > 3 and node.inputs[3] else range(rank)
    amounts = np.zeros((rank, 2), np.int32)
    amounts[[x.order.index(int(axis) % rank) for axis in listed]] = given
    if (amounts < 0).any():
        raise GraphError(f"node {node.name!r} (Pad): expected amounts of at least 0, received {given.tolist()}")
    real = float(b.graph.constant(node.inputs[2], node).reshape(())) if len(node.inputs) > 2 and node.inputs[2] else 0.0
    destination = b.destination(node)
    result, requantize = b.result_on(destination, x.grid, x.order)
    _write_pad(b, node, x, result, amounts.tolist(), real)
    if requantize:
        b.quantize(result, destination)


def _write_pad(b: Build, node: Node, x: Value, result: Value, amounts: list[list[int]], real: float) -> None:
    """PAD or PADV2; beyond the ranks of their kernels, the axes that stay as they are get joined."""
    shape, places = joined_axes(x.shape, [axis for axis, amount in enumerate(amounts) if any(amount)])
    inner, outer = x, result
    if len(x.shape) > MAX_PAD_RANK:
        if len(shape) > MAX_PAD_RANK:
            raise GraphError(f"node {node.name!r} (Pad): {len(places)} of {len(x.shape)} axes; LiteRT pads 5 at most")
        touched = [amount for amount in amounts if any(amount)]
        amounts = [touched[places.index(axis)] if axis in places else [0, 0] for axis in range(len(shape))]
        wide = tuple(size + sum(amount) for size, amount in zip(shape, amounts, strict=True))
        inner = b.scratch(node.name, "joined", shape, x.grid, plain(len(shape)))
        outer = b.scratch(node.name, "padded", wide, x.grid, plain(len(shape)))
        b.reshape(x, inner)
    inputs = [inner.index, b.ints(node, "pads", amounts)]
    if real == 0:
        b.writer.op("PAD", inputs, [outer.index], ("PadOptions", {}))
    else:
        b.writer.op("PADV2", [*inputs, _filling(b, node, x, real)], [outer.index], ("PadV2Options", {}))
    if outer is not result:
        b.reshape(outer, result)


def _filling(b: Build, node: Node, x: Value, real: float) -> int:
    """The padded value as a scalar on the tensor's own grid."""
    name = f"{node.name}{SCRATCH}filling"
    if x.grid is None:
        return b.scalar(name, real, None)
    return b.code(name, int(np.clip(np.rint(real / float(x.grid.scale)) + x.grid.zero_point, -128, 127)), x.grid)


def _ranges(b: Build, node: Node, x: Value) -> dict[int, tuple[int, int, int]]:
    """ONNX axis -> (start, stop, step) as Python's range takes them, for every axis that is not read whole."""
    given = [b.graph.constant(name, node).astype(np.int64).tolist() if name else None for name in node.inputs[1:]]
    starts, ends = given[0] or [], given[1] or []
    axes = given[2] if len(given) > 2 and given[2] is not None else list(range(len(starts)))
    steps = given[3] if len(given) > 3 and given[3] is not None else [1] * len(starts)
    shape, ranges = x.standing, {}
    for start, stop, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis % len(shape)]
        below = -size - 1 if step < 0 else -size  # ONNX counts a stop below -size as "past the front"
        stop = None if stop < -size and step < 0 else max(stop, below)
        ranges[axis % len(shape)] = slice(start, stop, step).indices(size)
    return {axis: (r[0], r[1], r[2]) for axis, r in ranges.items() if r != (0, shape[axis], 1)}


def _cut(b: Build, node: Node, value: Value, place: int, start: int, count: int) -> Value:
    """SLICE of `count` indices along one axis of the file."""
    if (start, count) == (0, value.shape[place]):
        return value
    inner, place_inside = _joined(b, node, value, place)
    shape = _with(inner.shape, place_inside, count)
    result = b.scratch(node.name, "cut", shape, value.grid, inner.order)
    begin = _with((0,) * len(shape), place_inside, start)
    inputs = [inner.index, b.ints(node, "begin", begin), b.ints(node, "size", shape)]
    b.writer.op("SLICE", inputs, [result.index], ("SliceOptions", {}))
    return _parted(b, node, result, value, _with(value.shape, place, count))


def _strided(b: Build, node: Node, value: Value, place: int, part: tuple[int, int, int]) -> Value:
    """Every step-th index along one axis of the file."""
    start, count, step = part
    size, inner = value.shape[place], value.shape[place + 1 :]
    shape = _with(value.shape, place, count)
    if size % step == 0 and start < step and count == size // step:
        rows = (int(np.prod(value.shape[:place])) * count, step, int(np.prod(inner)))
        wide = b.scratch(node.name, "steps", rows, value.grid, plain(3))
        b.reshape(value, wide)
        picked = _cut(b, node, wide, 1, start, 1)
        return _parted(b, node, picked, value, shape)
    joined, axis = _joined(b, node, value, place)
    rank = len(joined.shape)
    result = b.scratch(node.name, "strided", _with(joined.shape, axis, count), value.grid, joined.order)
    inputs = [
        joined.index,
        b.ints(node, "begin", _with((0,) * rank, axis, start)),
        b.ints(node, "end", _with(joined.shape, axis, start + (count - 1) * step + 1)),
        b.ints(node, "strides", _with((1,) * rank, axis, step)),
    ]
    b.writer.op("STRIDED_SLICE", inputs, [result.index], ("StridedSliceOptions", {}))
    return _parted(b, node, result, value, shape)


def _reverse(b: Build, node: Node, value: Value, place: int) -> Value:
    """REVERSE_V2 along one axis of the file."""
    inner, axis = _joined(b, node, value, place)
    result = b.scratch(node.name, "flipped", inner.shape, value.grid, inner.order)
    b.writer.op("REVERSE_V2", [inner.index, b.ints(node, "axis", [axis])], [result.index], ("ReverseV2Options", {}))
    return _parted(b, node, result, value, value.shape)


def _joined(b: Build, node: Node, value: Value, place: int) -> tuple[Value, int]:
    """A tensor of more than 4 axes as (outer, axis, inner), and where its axis is."""
    if len(value.shape) <= 4:
        return value, place
    shape, places = joined_axes(value.shape, [place])
    result = b.scratch(node.name, "joined", shape, value.grid, plain(len(shape)))
    b.reshape(value, result)
    return result, places[0]


def _parted(b: Build, node: Node, result: Value, like: Value, shape: tuple[int, ...]) -> Value:
    """The result of an op on a joined tensor with all its axes again, lying as `like` does."""
    if result.shape == shape:
        return Value(result.index, shape, result.grid, like.order)
    parted = b.scratch(node.name, "parted", shape, like.grid, like.order)
    b.reshape(result, parted)
    return parted


def _with(values: Sequence[int], place: int, value: int) -> tuple[int, ...]:
    """`values` with another one at `place`."""
    return (*values[:place], value, *values[place + 1 :])
