"""Ops that reduce axes to one number. One function per ONNX op; axes are reduced where they lie in the file."""

from __future__ import annotations

import numpy as np

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.build import Build, Value
from edge_unet.targets.tflite.layout import Order


def reduce_max(b: Build, node: Node) -> None:
    """ReduceMax -> REDUCE_MAX, on its input's grid: codes only compare."""
    x = b.value(node.inputs[0], node)
    _reduce(b, node, x, "REDUCE_MAX", _axes(b, node, x))


def global_max_pool(b: Build, node: Node) -> None:
    """GlobalMaxPool -> REDUCE_MAX over H and W."""
    _reduce(b, node, b.image(node.inputs[0], node), "REDUCE_MAX", (2, 3), keep=True)


def reduce_sum(b: Build, node: Node) -> None:
    """ReduceSum -> SUM, inside float islands only: its int8 kernel rounds on a grid that no canonical scale shares."""
    if not b.floats(node):
        raise GraphError(f"node {node.name!r} (ReduceSum): not lowered in int8; expected it inside a float island")
    x = b.value(node.inputs[0], node)
    _reduce(b, node, x, "SUM", _axes(b, node, x))


def reduce_mean(b: Build, node: Node) -> None:
    """ReduceMean -> MEAN; in int8 its input and output may lie on different grids."""
    x = b.value(node.inputs[0], node)
    axes = _axes(b, node, x)
    order = _order(x, axes, keep=_keeps(node))
    result = b.create(b.destination(node), order)
    _write(b, node, "MEAN", x, result, axes, keep=_keeps(node))


def _reduce(b: Build, node: Node, x: Value, code: str, axes: tuple[int, ...], *, keep: bool | None = None) -> None:
    keep = _keeps(node) if keep is None else keep
    destination = b.destination(node)
    result, requantize = b.result_on(destination, x.grid, _order(x, axes, keep=keep))
    _write(b, node, code, x, result, axes, keep=keep)
    if requantize:
        b.quantize(result, destination)


def _write(b: Build, node: Node, code: str, x: Value, result: Value, axes: tuple[int, ...], *, keep: bool) -> None:
    places = b.ints(node, "axes", sorted(x.order.index(axis) for axis in axes))
    b.writer.op(code, [x.index, places], [result.index], ("ReducerOptions", {"keepDims": keep}))


def _keeps(node: Node) -> bool:
    return bool(node.attributes.get("keepdims", 1))


def _order(x: Value, axes: tuple[int, ...], *, keep: bool) -> Order:
    """The result's order: that of the input, without the axes that are gone."""
    if keep:
        return x.order
    left = [axis for axis in x.order if axis not in axes]
    return tuple(sorted(left).index(axis) for axis in left)


def _axes(b: Build, node: Node, x: Value) -> tuple[int, ...]:
    """The reduced ONNX axes: an input since opset 13 (18 for ReduceMax and ReduceMean), an attribute before."""
    axes = node.ints("axes", ())
    if len(node.inputs) > 1 and node.inputs[1]:
        axes = tuple(int(axis) for axis in np.atleast_1d(b.graph.constant(node.inputs[1], node)))
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        raise GraphError(f"node {node.name!r} ({node.op}): reduces no axis; expected it to be dropped at export")
    return tuple(axis % len(x.shape) for axis in axes) or tuple(range(len(x.shape)))
