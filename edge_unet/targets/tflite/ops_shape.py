"""Ops that move numbers and change none: they keep the grid of their input. One function per ONNX op."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.build import SCRATCH, TO_NHWC, Build, Value


def resize(b: Build, node: Node) -> None:
    """Resize by integer factors: nearest -> CONCATENATION and RESHAPE (x2) or
    RESIZE_NEAREST_NEIGHBOR,
    half-pixel linear -> RESIZE_BILINEAR."""
    x = b.image(node.inputs[0], node)
    destination = b.destination(node)
    mode = str(node.attributes.get("mode", "nearest"))
    shape = b.graph.shapes[node.inputs[0]]
    factors = [out / size for out, size in zip(destination.shape, shape, strict=True)]
    if factors[:2] != [1, 1] or any(factor < 1 or factor != int(factor) for factor in factors):
        raise GraphError(f"node {node.name!r} (Resize): expected integer factors on H and W, received {factors}")
    result, requantize = b.result_on(destination, x.grid, image=True)
    if mode == "nearest":
        _check_nearest(node, factors)
        if b.nearest == "copies" and factors[2:] == [2, 2]:
            _twice(b, node, x, result)
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
    if requantize:
        b.quantize(result, destination)


def _size(b: Build, node: Node, result: Value) -> int:
    """The (height, width) input of the resize ops."""
    return b.constant(f"{node.name}{SCRATCH}size", np.array(result.shape[1:3], np.int32))


def _twice(b: Build, node: Node, x: Value, result: Value) -> None:
    """Nearest x2 as two doublings in memory: every pixel beside itself, then every row below itself.

    Bit-exact, and unlike RESIZE_NEAREST_NEIGHBOR it stays inside the XNNPACK delegate, so the graph is not split.
    """
    n, height, width, channels = x.shape
    wide = b.scratch(node.name, "wide", (n, height, width, 2 * channels), x.grid, image=True)
    rows = b.scratch(node.name, "rows", (n, height, 1, 2 * width * channels), x.grid, image=True)
    pairs = b.scratch(node.name, "pairs", (n, height, 1, 4 * width * channels), x.grid, image=True)
    last = ("ConcatenationOptions", {"axis": 3})
    b.writer.op("CONCATENATION", [x.index, x.index], [wide.index], last)
    _reshape(b, wide, rows)
    b.writer.op("CONCATENATION", [rows.index, rows.index], [pairs.index], last)
    _reshape(b, pairs, result)


def _reshape(b: Build, x: Value, result: Value) -> None:
    """RESHAPE in the file's own layout."""
    shape: NDArray[np.int32] = np.array(result.shape, np.int32)
    constant = b.constant(f"shape{SCRATCH}{result.index}", shape)
    b.writer.op("RESHAPE", [x.index, constant], [result.index], ("ReshapeOptions", {"newShape": shape.tolist()}))


def concat(b: Build, node: Node) -> None:
    """Concat -> CONCATENATION; an input on another grid than the output's is requantized first."""
    destination = b.destination(node)
    rank = len(destination.shape)
    axis = int(node.attributes["axis"]) % rank
    image = rank == 4
    inputs = [b.image(name, node) if image else b.plain(name, node) for name in node.inputs]
    parts = [b.on_grid(value, destination.grid, name) for value, name in zip(inputs, node.inputs, strict=True)]
    result = b.create(destination, image=image)
    options = ("ConcatenationOptions", {"axis": TO_NHWC.index(axis) if image else axis})
    b.writer.op("CONCATENATION", [part.index for part in parts], [result.index], options)


def pad(b: Build, node: Node) -> None:
    """Pad with zeros -> PAD (for int8: with the zero point)."""
    if str(node.attributes.get("mode", "constant")) != "constant":
        raise GraphError(f"node {node.name!r} (Pad): expected mode constant, received {node.attributes['mode']!r}")
    if len(node.inputs) > 2 and node.inputs[2] and float(b.graph.constant(node.inputs[2], node).reshape(())) != 0:
        raise GraphError(f"node {node.name!r} (Pad): expected zeros as padding")
    amounts = b.graph.constant(node.inputs[1], node).astype(np.int32).reshape(2, -1).T  # (rank, before/after)
    if len(node.inputs) > 3 and node.inputs[3]:
        raise GraphError(f"node {node.name!r} (Pad): the axes input is not lowered; expected pads for every axis")
    x = b.image(node.inputs[0], node) if len(amounts) == 4 else b.plain(node.inputs[0], node)
    amounts = amounts[list(TO_NHWC)] if x.image else amounts
    constant = b.constant(f"{node.name}{SCRATCH}pads", np.ascontiguousarray(amounts))
    _same_grid_op(b, node, "PAD", [x.index, constant], x, ("PadOptions", {}))


def slice_(b: Build, node: Node) -> None:
    """Slice -> SLICE at step 1, else STRIDED_SLICE."""
    x = b.value(node.inputs[0], node)
    rank = len(x.shape)
    lying = [TO_NHWC.index(axis) if x.image else axis for axis in range(rank)]  # ONNX axis -> axis in the file
    constants = [b.graph.constant(name, node).astype(np.int64).tolist() if name else None for name in node.inputs[1:]]
    starts, ends, *rest = constants
    assert starts is not None
    assert ends is not None
    axes = rest[0] if rest and rest[0] is not None else list(range(len(starts)))
    steps = rest[1] if len(rest) > 1 and rest[1] is not None else [1] * len(starts)
    begin, end, stride = [0] * rank, list(x.shape), [1] * rank
    for start, stop, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = lying[axis % rank]
        if step < 1:
            raise GraphError(f"node {node.name!r} (Slice): expected positive steps, received {step}")
        begin[place], end[place], _ = slice(start, stop, step).indices(x.shape[place])
        stride[place] = step

    def constant(suffix: str, values: list[int]) -> int:
        return b.constant(f"{node.name}{SCRATCH}{suffix}", np.array(values, np.int32))

    if set(stride) == {1}:
        size = [max(stop - start, 0) for start, stop in zip(begin, end, strict=True)]
        inputs = [x.index, constant("begin", begin), constant("size", size)]
        _same_grid_op(b, node, "SLICE", inputs, x, ("SliceOptions", {}))
        return
    inputs = [x.index, constant("begin", begin), constant("end", end), constant("strides", stride)]
    _same_grid_op(b, node, "STRIDED_SLICE", inputs, x, ("StridedSliceOptions", {}))


def transpose(b: Build, node: Node) -> None:
    """Transpose -> TRANSPOSE; the result keeps ONNX axis order."""
    x = b.plain(node.inputs[0], node)
    order = node.ints("perm", tuple(reversed(range(len(x.shape)))))
    constant = b.constant(f"{node.name}{SCRATCH}order", np.array(order, np.int32))
    _same_grid_op(b, node, "TRANSPOSE", [x.index, constant], x, ("TransposeOptions", {}))


def reshape(b: Build, node: Node) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze -> RESHAPE; the result keeps ONNX axis order."""
    x = b.plain(node.inputs[0], node)
    shape: NDArray[np.int32] = np.array(b.graph.shapes[node.output], np.int32)
    constant = b.constant(f"{node.name}{SCRATCH}shape", shape)
    _same_grid_op(b, node, "RESHAPE", [x.index, constant], x, ("ReshapeOptions", {"newShape": shape.tolist()}))


def _same_grid_op(
    b: Build, node: Node, code: str, inputs: list[int], x: Value, options: tuple[str, dict[str, object]]
) -> None:
    """Write an op whose output lies on its input's grid and in its layout; a QUANTIZE follows where that differs."""
    destination = b.destination(node)
    result, requantize = b.result_on(destination, x.grid, image=x.image)
    b.writer.op(code, inputs, [result.index], options)
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
