"""Resize as OpenVINO operators."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.openvino.ir import IrGraph

THIN = 8
"""Up to this many channels a linear Resize by integers is faster as two matrix products (to 256 on one AVX512-VNNI
core: 1 channel x2 0.17 ms against 1.7 ms of Interpolate, x4 to x32 0.06 against 0.6; 8 channels x2 1.6 against 2.5)."""


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
    factors = _half_pixel_factors(node, ir) if mode == "linear" else None
    if factors is not None and ir.graph.shapes[node.output][1] <= THIN:
        _linear_products(node, factors, ir)
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


def _half_pixel_factors(node: Node, ir: IrGraph) -> tuple[int, int] | None:
    """By what a Resize multiplies H and W, where these are integers and pixels have half-pixel centres."""
    before, after = ir.graph.shapes[node.inputs[0]], ir.graph.shapes[node.output]
    half_pixel = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    down, right = after[2] // before[2], after[3] // before[3]
    grown = after == (*before[:2], down * before[2], right * before[3])
    return (down, right) if grown and half_pixel in ("half_pixel", "pytorch_half_pixel") else None


def _linear_products(node: Node, factors: tuple[int, int], ir: IrGraph) -> None:
    """Columns, then rows, as matrix products; rows in blocks that share one small matrix.

    On int8 codes times a scale of few bits, and factors that are powers of two up to 32, every product and sum is
    exact in float32, in any order.
    """
    down, right = factors
    channels, height, width = ir.graph.shapes[node.inputs[0]][1:]
    x = ir.value(node.inputs[0], node)
    columns = np.ascontiguousarray(growing(width, right).T)  # (W, right W)
    wide = ir.ops.matmul(x, ir.ops.constant(columns), False, False)  # (1, C, H, right W)
    block = max(size for size in range(1, 17) if height % size == 0)
    reach = np.arange(-1, block + 1)  # a block and the row on either side, edges repeated
    places = np.clip(np.arange(0, height, block)[:, None] + reach, 0, height - 1).astype(np.int64)
    blocks = ir.ops.gather(wide, ir.ops.constant(places), ir.ops.constant(np.int64(2)))  # (1, C, H/b, b+2, right W)
    inner = growing(block + 2, down)[down:-down]  # (down b, b+2)
    tall = ir.ops.matmul(ir.ops.constant(np.ascontiguousarray(inner)), blocks, False, False)
    shape = np.array([1, channels, down * height, right * width], np.int64)
    ir.put(node, ir.ops.reshape(tall, shape, False))  # (1, C, down H, right W)


def growing(size: int, factor: int) -> NDArray[np.float32]:
    """(factor size, size) matrix of half-pixel linear interpolation, edges repeated: x2 is 3/4 of the own pixel and
    1/4 of the nearer neighbour."""
    place = (np.arange(factor * size) + 0.5) / factor - 0.5
    lower = np.floor(place).astype(np.int64)
    share = (place - lower).astype(np.float32)
    matrix = np.zeros((factor * size, size), np.float32)
    rows = np.arange(factor * size)
    np.add.at(matrix, (rows, np.clip(lower, 0, size - 1)), 1 - share)
    np.add.at(matrix, (rows, np.clip(lower + 1, 0, size - 1)), share)
    return matrix
