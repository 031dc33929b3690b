"""Resize on integers. Half-pixel linear x2 as four convolutions, one for each pixel of a 2x2 block of the result.

An output pixel of x2 is 9/16, 3/16, 3/16 and 1/16 of the four pixels around it. These are exact as int8 weights, so the
accumulator holds the exact sum and one rounding follows, as in the reference; the int8 RESIZE_BILINEAR kernel rounds
its interpolation weights as well. What is left is which way a tie goes: see HALF.
"""

from __future__ import annotations

from itertools import product

import numpy as np

from edge_unet.canonical import Node
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite import ops_shape
from edge_unet.targets.tflite.build import SCRATCH, Build, Value, same_grid
from edge_unet.targets.tflite.layout import NHWC, lying
from edge_unet.targets.tflite.writer import Quantization

TAPS = ((1, 3, 0), (0, 3, 1))
"""Quarters of the pixel in front, the pixel and the pixel behind, in the first and in the second pixel of a pair."""

UNITS = 8
"""Weight codes per sixteenth: 72 is the largest. Several, so that the bias can hold half a sixteenth."""

HALF = -UNITS // 2
"""The bias: half of a sixteenth of a step, downwards. The reference rounds ties to even, kernels away from zero, which
would turn a logit of half a step (class 0) into one step (class 1). Rounded down it stays class 0."""


def resize(b: Build, node: Node) -> None:
    """Resize by integer factors: nearest -> RESIZE_NEAREST_NEIGHBOR; half-pixel linear x2 -> convolutions; linear by
    other factors -> RESIZE_BILINEAR."""
    if str(node.attributes.get("mode", "nearest")) != "linear":
        ops_shape.resize(b, node)
        return
    transform = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    if transform not in ("half_pixel", "pytorch_half_pixel"):
        raise GraphError(f"node {node.name!r} (Resize): linear expects half_pixel, received {transform!r}")
    x = b.image(node.inputs[0], node)
    destination = b.destination(node)
    factors = [out / size for out, size in zip(destination.shape, x.standing, strict=True)]
    if factors[:2] != [1, 1] or any(factor < 1 or factor != int(factor) for factor in factors):
        raise GraphError(f"node {node.name!r} (Resize): expected integer factors on H and W, received {factors}")
    if factors[2:] == [2, 2]:
        phases = _phases(b, node, x, destination.grid)
        interleave(b, node, phases, b.create(destination, NHWC))
        return
    result, requantize = b.result_on(destination, x.grid, NHWC)
    size = b.ints(node, "size", lying(destination.shape, NHWC)[1:3])
    options = ("ResizeBilinearOptions", {"alignCorners": False, "halfPixelCenters": True})
    b.writer.op("RESIZE_BILINEAR", [x.index, size], [result.index], options)
    b.notes.append(f"{node.name}: linear Resize by {factors[2]:g} as int8 RESIZE_BILINEAR: codes may differ by one")
    if requantize:
        b.quantize(result, destination)


def _phases(b: Build, node: Node, x: Value, grid: Grid | None) -> list[Value]:
    """The four pixels of every 2x2 block, each an image of the input's size: (0, 0), (0, 1), (1, 0), (1, 1)."""
    assert x.grid is not None  # this target has no float tensor
    n, height, width, channels = x.shape
    around = b.scratch(node.name, "around", (n, height + 2, width + 2, channels), x.grid, NHWC)
    amounts = b.ints(node, "pads", [(0, 0), (1, 1), (1, 1), (0, 0)])
    symmetric = b.writer.choice("MirrorPadMode", "SYMMETRIC")  # one pixel mirrored is the edge repeated
    b.writer.op("MIRROR_PAD", [x.index, amounts], [around.index], ("MirrorPadOptions", {"mode": symmetric}))
    step = np.full(channels, 1 / (16 * UNITS), np.float32)
    sums = Quantization(step * np.float32(x.grid.scale))
    bias = b.writer.tensor(f"{node.name}{SCRATCH}half", (channels,), "INT32", sums, np.full(channels, HALF, np.int32))
    fields = {
        "padding": b.writer.choice("Padding", "VALID"),
        "strideH": 1,
        "strideW": 1,
        "dilationHFactor": 1,
        "dilationWFactor": 1,
        "depthMultiplier": 1,
    }
    phases: list[Value] = []
    for rows, columns in product(TAPS, TAPS):
        codes = UNITS * np.outer(rows, columns)[None, :, :, None]  # (1, 3, 3, 1)
        payload = np.ascontiguousarray(np.broadcast_to(codes, (1, 3, 3, channels)), np.int8)
        name = f"{node.name}{SCRATCH}taps{len(phases)}"
        taps = b.writer.tensor(name, payload.shape, "INT8", Quantization(step, 0, 3 if channels > 1 else 0), payload)
        phase = b.scratch(node.name, "phase", x.shape, grid, NHWC)
        options = ("DepthwiseConv2DOptions", fields)
        b.writer.op("DEPTHWISE_CONV_2D", [around.index, taps, bias], [phase.index], options)
        phases.append(phase)
    return phases


def interleave(b: Build, node: Node, phases: list[Value], result: Value) -> None:
    """Four images of one size -> one of twice the height and width, by copies in memory only."""
    n, height, width, channels = phases[0].shape
    grid = phases[0].grid
    assert same_grid(grid, result.grid)
    pairs = []
    for left, right in (phases[:2], phases[2:]):
        pair = b.scratch(node.name, "pair", (n, height, width, 2 * channels), grid, NHWC)  # pixels beside each other
        b.writer.op("CONCATENATION", [left.index, right.index], [pair.index], ("ConcatenationOptions", {"axis": 3}))
        pairs.append(pair)
    rows = b.scratch(node.name, "rows", (n, height, 2 * width, 2 * channels), grid, NHWC)  # a row, then the one below
    b.writer.op("CONCATENATION", [pair.index for pair in pairs], [rows.index], ("ConcatenationOptions", {"axis": 2}))
    b.reshape(rows, result)
