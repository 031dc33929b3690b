"""Ops that move numbers and change none: they keep the grid of their input. One function per ONNX op."""

from __future__ import annotations

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.build import Build, Value
from edge_unet.targets.tflite.layout import NHWC, lying, plain, reshaped, transposed

MAX_PARTS = 5
"""What XNNPACK joins in one CONCATENATION; more would split the graph."""


def resize(b: Build, node: Node) -> None:
    """Resize by integer factors: nearest -> CONCATENATION and RESHAPE, or RESIZE_NEAREST_NEIGHBOR; half-pixel linear
    -> RESIZE_BILINEAR in float32, because its int8 kernel rounds ties upwards: an eighth of the codes of a linear x2,
    which is enough to move one mask pixel in a hundred where attention follows."""
    x = b.image(node.inputs[0], node)
    mode = str(node.attributes.get("mode", "nearest"))
    if mode == "linear":
        x = b.real(x, node.name)
    destination = b.destination(node)
    factors = [out / size for out, size in zip(destination.shape, x.standing, strict=True)]
    if factors[:2] != [1, 1] or any(factor < 1 or factor != int(factor) for factor in factors):
        raise GraphError(f"node {node.name!r} (Resize): expected integer factors on H and W, received {factors}")
    result, requantize = b.result_on(destination, x.grid, NHWC)
    if mode == "nearest":
        _check_nearest(node, factors)
        parts = [_copies(int(factor)) for factor in factors[2:]]
        if b.nearest == "copies" and None not in parts:
            _repeat(b, node, x, result, [part or [] for part in parts])
        else:
            options = ("ResizeNearestNeighborOptions", {"alignCorners": False, "halfPixelCenters": False})
            b.writer.op("RESIZE_NEAREST_NEIGHBOR", [x.index, _size(b, node, result)], [result.index], options)
    elif mode == "linear":
        transform = node.attributes.get("coordinate_transformation_mode", "half_pixel")
        if transform not in ("half_pixel", "pytorch_half_pixel"):
            raise GraphError(f"node {node.name!r} (Resize): linear expects half_pixel, received {transform!r}")
        options = ("ResizeBilinearOptions", {"alignCorners": False, "halfPixelCenters": True})
        b.writer.op("RESIZE_BILINEAR", [x.index, _size(b, node, result)], [result.index], options)
    else:
        raise GraphError(f"node {node.name!r} (Resize): expected mode nearest or linear, received {mode!r}")
    if mode == "linear" and requantize:
        b.notes.append(f"{node.name}: linear Resize computed in float32: the int8 kernel rounds ties upwards")
    if requantize:
        b.quantize(result, destination)


def _size(b: Build, node: Node, result: Value) -> int:
    """The (height, width) input of the resize ops."""
    return b.ints(node, "size", result.shape[1:3])


def _copies(factor: int) -> list[int] | None:
    """`factor` as a product of numbers of copies that one CONCATENATION makes; None where it is none."""
    parts = []
    while factor > 1:
        part = next((count for count in range(min(MAX_PARTS, factor), 1, -1) if factor % count == 0), None)
        if part is None:
            return None
        parts.append(part)
        factor //= part
    return parts


def _repeat(b: Build, node: Node, x: Value, result: Value, parts: list[list[int]]) -> None:
    """Nearest as copies in memory: every pixel beside itself, then every row below itself.

    Bit-exact, and unlike RESIZE_NEAREST_NEIGHBOR it stays inside the XNNPACK delegate, so the graph is not split.
    """
    n, height, width, channels = x.shape
    value = x
    steps = [("wide", count) for count in parts[1]] + [("rows", count) for count in parts[0]]
    for suffix, count in steps:
        shape = (n, height, width, channels) if suffix == "wide" else (n, height, 1, width * channels)
        value = value if value.shape == shape else _as(b, node, value, shape)
        pairs = b.scratch(node.name, suffix, (*shape[:3], count * shape[3]), x.grid, NHWC)
        options = ("ConcatenationOptions", {"axis": 3})
        b.writer.op("CONCATENATION", [value.index] * count, [pairs.index], options)
        value = pairs
        height, width = (height, width * count) if suffix == "wide" else (height * count, width)
    b.reshape(value, result)


def _as(b: Build, node: Node, value: Value, shape: tuple[int, ...]) -> Value:
    result = b.scratch(node.name, "flat", shape, value.grid, NHWC)
    b.reshape(value, result)
    return result


def concat(b: Build, node: Node) -> None:
    """Concat -> CONCATENATION; an input on another grid than the output's is requantized first. Parts of islands may
    be constants."""
    destination = b.destination(node)
    axis = int(node.attributes["axis"]) % len(destination.shape)
    orders = [b.values[name].order for name in node.inputs if name in b.values]
    order = next((order for order in orders if order == NHWC), orders[0])
    parts = []
    for name in node.inputs:
        if b.floats(node) and name in b.graph.constants:
            parts.append(b.fixed(name, order))
        else:
            parts.append(b.on_grid(b.lay(b.value(name, node), order), destination.grid, name))
    place = order.index(axis)
    while len(parts) > MAX_PARTS:
        parts = [_join(b, node, parts[:MAX_PARTS], place), *parts[MAX_PARTS:]]
    result = b.create(destination, order)
    options = ("ConcatenationOptions", {"axis": place})
    b.writer.op("CONCATENATION", [part.index for part in parts], [result.index], options)


def _join(b: Build, node: Node, parts: list[Value], place: int) -> Value:
    """Some of the parts of a longer Concat."""
    first = parts[0]
    shape = list(first.shape)
    shape[place] = sum(part.shape[place] for part in parts)
    result = b.scratch(node.name, "joined", shape, first.grid, first.order)
    options = ("ConcatenationOptions", {"axis": place})
    b.writer.op("CONCATENATION", [part.index for part in parts], [result.index], options)
    return result


def transpose(b: Build, node: Node) -> None:
    """Transpose -> nothing: the same tensor in another order. Whoever needs its own one moves it."""
    x = b.value(node.inputs[0], node)
    order = transposed(x.order, node.ints("perm", tuple(reversed(range(len(x.shape))))))
    b.settle(node, Value(x.index, x.shape, x.grid, order))


def reshape(b: Build, node: Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze -> RESHAPE, in the order in which the tensor lies wherever that is
    possible; nothing where not even the file's shape changes."""
    x = b.value(node.inputs[0], node)
    shape = b.graph.shapes[node.output]
    order = reshaped(x.standing, x.order, shape)
    if order is None:
        x, order = b.lay(x, plain(len(x.shape))), plain(len(shape))
    if lying(shape, order) == x.shape:
        b.settle(node, Value(x.index, x.shape, x.grid, order))
        return
    destination = b.destination(node)
    result, requantize = b.result_on(destination, x.grid, order)
    b.reshape(x, result)
    if requantize:
        b.quantize(result, destination)


def _check_nearest(node: Node, factors: list[float]) -> None:
    """Raise GraphError unless every output pixel copies floor(index / factor), the one rule all runtimes share."""
    transform = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    rounding = node.attributes.get("nearest_mode", "round_prefer_floor")
    floors = transform == "asymmetric" and rounding == "floor"
    centred = transform in ("half_pixel", "pytorch_half_pixel") and rounding in (
        "round_prefer_floor",
        "round_prefer_ceil",
    )
    if not floors and not centred and any(factor != 1 for factor in factors):
        raise GraphError(
            f"node {node.name!r} (Resize): nearest with {transform!r} and {rounding!r} is not floor(index / factor); "
            "expected asymmetric with floor, or half_pixel with rounding"
        )
