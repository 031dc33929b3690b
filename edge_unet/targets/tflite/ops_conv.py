"""Convolutions and pools: ops with a window. One function per ONNX op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import Node
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.build import SCRATCH, Build, Value
from edge_unet.targets.tflite.layout import NHWC, lying
from edge_unet.targets.tflite.writer import Quantization

BIAS_LIMIT = 2**30
"""A bias beyond this is cut: half of int32 is left to the accumulator, which would wrap around silently."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A weight in ONNX layout; `grid` is None for float32."""

    name: str
    values: NDArray[Any]
    grid: Grid | None
    axis: int


def weight(b: Build, node: Node, axis: int) -> Filter:
    """The weight of `node`, per output channel along `axis` (or per tensor)."""
    name = node.inputs[1]
    if b.floats(node):
        return Filter(name, b.graph.constant(name, node), None, axis)
    if name not in b.graph.weights:
        raise GraphError(
            f"node {node.name!r} ({node.op}): weight {name!r} is not an int8 initializer behind a DequantizeLinear; "
            "export the canonical graph again"
        )
    quantized = b.graph.weights[name]
    if quantized.grid.zero_point != 0 or (quantized.grid.scale.size > 1 and quantized.axis != axis):
        raise GraphError(
            f"node {node.name!r} ({node.op}): weight {quantized.name!r} has zero point {quantized.grid.zero_point} on "
            f"axis {quantized.axis}; expected 0 on axis {axis}"
        )
    return Filter(quantized.name, quantized.values, quantized.grid, axis)


def write_filter(b: Build, filter_: Filter, order: tuple[int, ...], channel_axis: int) -> int:
    """The weight with its axes in `order`; `channel_axis` is where the output channels end up."""
    values = np.ascontiguousarray(filter_.values.transpose(order))
    if filter_.grid is None:
        return b.writer.tensor(filter_.name, values.shape, "FLOAT32", None, values.astype(np.float32))
    scale = filter_.grid.scale.reshape(-1)
    grid = Quantization(scale, 0, channel_axis if scale.size > 1 else 0)
    return b.writer.tensor(filter_.name, values.shape, "INT8", grid, values)


def write_bias(
    b: Build, node: Node, x: Value, filter_: Filter, channels: int, limit: float, *, name: str | None = None
) -> int:
    """The bias (zeros where the node has none): int32 with scale s_x * s_w per channel, or float32.

    `limit` is the largest real output that matters: a bias cut by BIAS_LIMIT must still lie beyond it.
    """
    name = name if name is not None else node.inputs[2] if len(node.inputs) > 2 else ""
    real = b.graph.constant(name, node).astype(np.float64).reshape(-1) if name else np.zeros(channels)
    label = name or f"{node.name}{SCRATCH}bias"
    if filter_.grid is None or x.grid is None:
        return b.constant(label, real.astype(np.float32))
    step = np.float32(x.grid.scale) * filter_.grid.scale.reshape(-1).astype(np.float32)
    codes = np.rint(real / step.astype(np.float64))
    cut = np.abs(codes) > BIAS_LIMIT
    if np.any(cut & (BIAS_LIMIT * np.broadcast_to(step, codes.shape) < limit)):
        worst = int(np.argmax(np.abs(codes)))
        raise GraphError(
            f"node {node.name!r} ({node.op}): bias {real[worst]:g} of channel {worst} needs code {codes[worst]:.3g}; "
            f"expected at most 2**30: the channel's weight scale {float(np.broadcast_to(step, codes.shape)[worst]):.3g}"
            " (times the input's) is too small; train or calibrate again with a larger floor for weight scales"
        )
    codes = np.clip(codes, -BIAS_LIMIT, BIAS_LIMIT).astype(np.int32)
    return b.writer.tensor(label, codes.shape, "INT32", Quantization(step.reshape(-1)), codes)


def output_limit(grid: Grid | None) -> float:
    """The largest magnitude that an output on `grid` can hold."""
    return float("inf") if grid is None else 128 * float(grid.scale)


def conv(b: Build, node: Node) -> None:
    """Conv -> CONV_2D, or DEPTHWISE_CONV_2D where every input channel is its own group."""
    x = b.image(node.inputs[0], node)
    filter_ = weight(b, node, axis=0)
    destination = b.destination(node, fuse=True)
    groups = int(node.attributes.get("group", 1))
    cin, cout = x.shape[3], filter_.values.shape[0]
    depthwise = groups > 1 and groups == cin
    strides, dilations = node.ints("strides", (1, 1)), node.ints("dilations", (1, 1))
    x, padding = _padded(b, node, x, lying(destination.shape, NHWC), filter_.values.shape[2:], strides, dilations)
    order, channel_axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)  # OIHW -> 1HWO or OHWI
    kernel = write_filter(b, filter_, order, channel_axis)
    bias = write_bias(b, node, x, filter_, cout, output_limit(destination.grid))
    result = b.create(destination, NHWC)
    fields = {
        "padding": b.writer.choice("Padding", padding),
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": b.writer.choice("ActivationFunctionType", destination.activation),
    }
    if depthwise:
        options = ("DepthwiseConv2DOptions", {**fields, "depthMultiplier": cout // groups})
        b.writer.op("DEPTHWISE_CONV_2D", [x.index, kernel, bias], [result.index], options)
    else:
        options = ("Conv2DOptions", fields)
        b.writer.op("CONV_2D", [x.index, kernel, bias], [result.index], options, grouped=groups > 1)


def conv_transpose(b: Build, node: Node) -> None:
    """ConvTranspose (one group) -> TRANSPOSE_CONV."""
    x = b.image(node.inputs[0], node)
    filter_ = weight(b, node, axis=1)
    destination = b.destination(node, fuse=True)
    strides, pads = node.ints("strides", (1, 1)), node.ints("pads", (0, 0, 0, 0))
    kernel_size, out = filter_.values.shape[2:], lying(destination.shape, NHWC)
    if int(node.attributes.get("group", 1)) != 1 or set(node.ints("dilations", (1, 1))) != {1}:
        raise GraphError(f"node {node.name!r} (ConvTranspose): expected one group and dilation 1")
    full = [(x.shape[1 + i] - 1) * strides[i] + kernel_size[i] for i in (0, 1)]
    if not any(pads) and full == [out[1], out[2]]:
        padding = "VALID"
    elif _same_transposed(x.shape, out, strides, pads, full):
        padding = "SAME"
    else:
        raise GraphError(
            f"node {node.name!r} (ConvTranspose): pads {pads} with kernel {kernel_size} and strides {strides} have no "
            "TRANSPOSE_CONV form; expected pads 0, or symmetric ones with output = input * stride"
        )
    kernel = write_filter(b, filter_, (1, 2, 3, 0), 0)  # IOHW -> OHWI
    bias = write_bias(b, node, x, filter_, out[3], output_limit(destination.grid))
    shape = b.ints(node, "shape", out)
    result = b.create(destination, NHWC)
    fields = {
        "padding": b.writer.choice("Padding", padding),
        "strideH": strides[0],
        "strideW": strides[1],
        "fusedActivationFunction": b.writer.choice("ActivationFunctionType", destination.activation),
    }
    options = ("TransposeConvOptions", fields)
    b.writer.op("TRANSPOSE_CONV", [shape, kernel, x.index, bias], [result.index], options)


def max_pool(b: Build, node: Node) -> None:
    """MaxPool without padding -> MAX_POOL_2D, on one grid."""
    _pool(b, node, "MAX_POOL_2D")


def average_pool(b: Build, node: Node) -> None:
    """AveragePool without padding -> AVERAGE_POOL_2D, on one grid."""
    _pool(b, node, "AVERAGE_POOL_2D")


def global_average_pool(b: Build, node: Node) -> None:
    """GlobalAveragePool -> MEAN over H and W; input and output may lie on different grids."""
    x = b.image(node.inputs[0], node)
    result = b.create(b.destination(node), NHWC)
    axes = b.ints(node, "axes", [1, 2])
    b.writer.op("MEAN", [x.index, axes], [result.index], ("ReducerOptions", {"keepDims": True}))


def _pool(b: Build, node: Node, code: str) -> None:
    if any(node.ints("pads", (0,))) or node.attributes.get("ceil_mode", 0) or node.ints("dilations", (1,))[0] != 1:
        raise GraphError(f"node {node.name!r} ({node.op}): expected no pads, no ceil_mode and dilation 1")
    x = b.image(node.inputs[0], node)
    destination = b.destination(node)
    result, requantize = b.result_on(destination, x.grid, NHWC)
    height, width = node.ints("kernel_shape", ())
    strides = node.ints("strides", (1, 1))
    fields = {
        "padding": b.writer.choice("Padding", "VALID"),
        "filterHeight": height,
        "filterWidth": width,
        "strideH": strides[0],
        "strideW": strides[1],
    }
    b.writer.op(code, [x.index], [result.index], ("Pool2DOptions", fields))
    if requantize:
        b.quantize(result, destination)


def _padded(
    b: Build, node: Node, x: Value, out: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...],
    dilations: tuple[int, ...],
) -> tuple[Value, str]:  # fmt: skip
    """The input a conv reads and its Padding member.

    SAME pads as little as the windows need, the odd pixel behind; torch pads both sides. They differ at stride 2
    (0, 1 against 1, 1), and shift the picture by a pixel: there an own PAD goes in front of a VALID conv.
    """
    pads = node.ints("pads", (0, 0, 0, 0))
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise GraphError(f"node {node.name!r} ({node.op}): auto_pad is not lowered; expected explicit pads")
    if not any(pads):
        return x, "VALID"
    need = [max((out[1 + i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1 - x.shape[1 + i], 0) for i in (0, 1)]
    halves = all((need[i] // 2, need[i] - need[i] // 2) == (pads[i], pads[2 + i]) for i in (0, 1))
    if halves and all(out[1 + i] == -(-x.shape[1 + i] // strides[i]) for i in (0, 1)):
        return x, "SAME"
    # Behind, only what a window reads: a row that no window touches would be copied for nothing.
    amounts = [(0, 0), *((pads[i], max(need[i] - pads[i], 0)) for i in (0, 1)), (0, 0)]
    shape = tuple(size + sum(amount) for size, amount in zip(x.shape, amounts, strict=True))
    constant = b.ints(node, "pads", amounts)
    padded = b.scratch(node.name, "padded", shape, x.grid, NHWC)  # (N, H + top + bottom, W + left + right, C)
    b.writer.op("PAD", [x.index, constant], [padded.index], ("PadOptions", {}))
    return padded, "VALID"


def _same_transposed(
    shape: tuple[int, ...], out: tuple[int, ...], strides: tuple[int, ...], pads: tuple[int, ...], full: list[int]
) -> bool:
    """Whether TRANSPOSE_CONV's SAME rule (total padding = full - output, half of it in front) gives `pads`."""
    return all(
        shape[1 + i] == -(-out[1 + i] // strides[i]) and pads[i] == max(full[i] - out[1 + i], 0) // 2 for i in (0, 1)
    )
