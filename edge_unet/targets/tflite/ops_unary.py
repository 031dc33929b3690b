"""Elementwise ops of one tensor. One function per ONNX op.

None of them cares how its tensor lies. Where LiteRT has no int8 kernel that keeps the reference's codes, the op
computes in float32 between a DEQUANTIZE and a QUANTIZE and says so in the notes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edge_unet.canonical import Node
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.build import SCRATCH, Build, Value, clip_bounds, same_grid
from edge_unet.targets.tflite.layout import last

PROBABILITY = Grid(np.float32(1 / 256), -128)  # type: ignore[arg-type]
"""The one grid on which int8 SOFTMAX may write."""

MAX_SOFTMAX_RANK = 4


def sigmoid(b: Build, node: Node) -> None:
    """Sigmoid -> LOGISTIC in float32: its int8 kernel writes steps of 1/256 only, and rounding these once more to the
    portable grid moves a quarter of all codes."""
    in_float(b, node, lambda x, y: b.writer.op("LOGISTIC", [x.index], [y.index]))


def tanh(b: Build, node: Node) -> None:
    """Tanh -> TANH in float32, for the same reason: its int8 kernel writes steps of 1/128 only."""
    in_float(b, node, lambda x, y: b.writer.op("TANH", [x.index], [y.index]))


def softmax(b: Build, node: Node) -> None:
    """Softmax over one axis, which is brought to the end -> SOFTMAX, then QUANTIZE to the portable grid."""
    x = b.value(node.inputs[0], node)
    axis = int(node.attributes.get("axis", -1)) % len(x.shape)
    x = x if x.order[-1] == axis else b.lay(x, last(x.order, axis))
    options = ("SoftmaxOptions", {"beta": 1.0})

    destination = b.destination(node)
    result, requantize = b.result_on(destination, None if x.grid is None else PROBABILITY, x.order)
    if len(x.shape) <= MAX_SOFTMAX_RANK:
        b.writer.op("SOFTMAX", [x.index], [result.index], options)
    else:
        flat = (int(np.prod(x.shape[:-1])), x.shape[-1])
        rows, soft = (b.scratch(node.name, name, flat, v.grid, (0, 1)) for name, v in (("rows", x), ("soft", result)))
        b.reshape(x, rows)
        b.writer.op("SOFTMAX", [rows.index], [soft.index], options)
        b.reshape(soft, result)
    if requantize:
        b.quantize(result, destination)


def hard_sigmoid(b: Build, node: Node) -> None:
    """HardSigmoid with alpha 1/6, beta 1/2 (MobileNetV3) -> relu6(x + 3) * 1/6: no runtime has an int8 kernel."""
    alpha, beta = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
    if not np.isclose(alpha, 1 / 6, rtol=1e-5) or beta != 0.5:
        raise GraphError(f"node {node.name!r} (HardSigmoid): expected alpha 1/6 and beta 0.5, received {alpha}, {beta}")
    x = b.value(node.inputs[0], node)
    destination = b.destination(node)
    inner = _relu6_of_3_more(b, node, x)
    sixth = b.scalar(f"{node.name}{SCRATCH}sixth", 1 / 6, x.grid)
    result = b.create(destination, x.order)
    b.writer.op("MUL", [inner.index, sixth], [result.index], ("MulOptions", {}))


def hard_swish(b: Build, node: Node) -> None:
    """HardSwish -> HARD_SWISH in float; in int8 relu6(x + 3) * x * 1/6, three ops that XNNPACK takes: the int8
    HARD_SWISH kernel splits the graph and takes about a hundred times as long.

    The product lies on six times the result's grid, so that the last factor changes no code.
    """
    x = b.value(node.inputs[0], node)
    destination = b.destination(node)
    if x.grid is None or destination.grid is None:
        result = b.create(destination, x.order)
        b.writer.op("HARD_SWISH", [x.index], [result.index], ("HardSwishOptions", {}))
        return
    inner = _relu6_of_3_more(b, node, x)
    sixfold = Grid(np.asarray(6 * destination.grid.scale, np.float32), destination.grid.zero_point)
    product = b.scratch(node.name, "sixfold", x.shape, sixfold, x.order)
    b.writer.op("MUL", [inner.index, x.index], [product.index], ("MulOptions", {}))
    sixth = b.scalar(f"{node.name}{SCRATCH}sixth", 1 / 6, x.grid)
    result = b.create(destination, x.order)
    b.writer.op("MUL", [product.index, sixth], [result.index], ("MulOptions", {}))


def gelu(b: Build, node: Node) -> None:
    """Gelu -> GELU; its int8 kernel is a table of all 256 codes, made from the exact function."""
    tanh = str(node.attributes.get("approximate", "none")) == "tanh"
    x = b.value(node.inputs[0], node)
    result = b.create(b.destination(node), x.order)
    b.writer.op("GELU", [x.index], [result.index], ("GeluOptions", {"approximate": tanh}))


def clip(b: Build, node: Node) -> None:
    """Clip and Relu that no op in front could take in -> RELU or RELU6; other bounds -> MAXIMUM and MINIMUM.

    In int8, RELU and RELU6 are the activation of an ADD of zero, which stays inside XNNPACK; on another grid they are
    float32, because int8 kernels round the many ties between two such grids up, the reference to even.
    """
    low, high = clip_bounds(b.graph, node)
    x = b.value(node.inputs[0], node)
    if low == 0 and high in (6.0, float("inf")):
        activation = "RELU6" if high == 6 else "RELU"
        grids = [
            b.graph.activations[q.output] for q in b.graph.consumers.get(node.output, ()) if q.op == "QuantizeLinear"
        ]
        if x.grid is None or not all(same_grid(x.grid, grid) for grid in grids):
            in_float(b, node, lambda x, y: b.writer.op(activation, [x.index], [y.index]))
            return
        zero = b.code(f"{node.name}{SCRATCH}zero", x.grid.zero_point, x.grid)
        result = b.create(b.destination(node), x.order)
        fields = {"fusedActivationFunction": b.writer.choice("ActivationFunctionType", activation)}
        b.writer.op("ADD", [x.index, zero], [result.index], ("AddOptions", fields))
        return
    destination = b.destination(node)
    bounds = [(code, bound) for code, bound in (("MAXIMUM", low), ("MINIMUM", high)) if np.isfinite(bound)]
    value = x
    for place, (code, bound) in enumerate(bounds):
        if place < len(bounds) - 1:
            result, requantize = b.scratch(destination.names[0], code.lower(), x.shape, x.grid, x.order), False
        else:
            result, requantize = b.result_on(destination, x.grid, x.order)
        limit = _bound(b, f"{node.name}{SCRATCH}{code.lower()}", bound, x.grid)
        b.writer.op(code, [value.index, limit], [result.index], ("MaximumMinimumOptions", {}))
        value = result
        if requantize:
            b.quantize(result, destination)


def exp(b: Build, node: Node) -> None:
    """Exp -> EXP in float32."""
    in_float(b, node, lambda x, y: b.writer.op("EXP", [x.index], [y.index], ("ExpOptions", {})))


def log(b: Build, node: Node) -> None:
    """Log -> LOG in float32."""
    in_float(b, node, lambda x, y: b.writer.op("LOG", [x.index], [y.index]))


def neg(b: Build, node: Node) -> None:
    """Neg -> NEG in float32."""
    in_float(b, node, lambda x, y: b.writer.op("NEG", [x.index], [y.index], ("NegOptions", {})))


def sqrt(b: Build, node: Node) -> None:
    """Sqrt -> SQRT in float32."""
    in_float(b, node, lambda x, y: b.writer.op("SQRT", [x.index], [y.index]))


def softplus(b: Build, node: Node) -> None:
    """Softplus -> max(x, 0) + log(1 + exp(-|x|)) in float32: exp never overflows."""

    def write(x: Value, y: Value) -> None:
        def step(code: str, inputs: list[int], options: str | None = None) -> int:
            result = b.scratch(node.name, code.lower(), x.shape, None, x.order)
            b.writer.op(code, inputs, [result.index], (options, {}) if options else None)
            return result.index

        negative = step("NEG", [step("ABS", [x.index], "AbsOptions")], "NegOptions")
        one = b.scalar(f"{node.name}{SCRATCH}one", 1.0, None)
        tail = step("LOG", [step("ADD", [step("EXP", [negative], "ExpOptions"), one], "AddOptions")])
        b.writer.op("ADD", [step("RELU", [x.index]), tail], [y.index], ("AddOptions", {}))

    in_float(b, node, write)


def in_float(b: Build, node: Node, write: Callable[[Value, Value], None]) -> None:
    """Write an op of one tensor in float32, in an int8 graph between a DEQUANTIZE and a QUANTIZE."""
    x = b.real(b.value(node.inputs[0], node), node.name)
    destination = b.destination(node)
    result, quantize = b.result_on(destination, None, x.order)
    write(x, result)
    if quantize:
        b.notes.append(f"{node.name}: {node.op} computed in float32: no int8 kernel gives the reference's codes")
        b.quantize(result, destination)


def _relu6_of_3_more(b: Build, node: Node, x: Value) -> Value:
    """relu6(x + 3), on a grid of 0..6 over all 256 codes."""
    grid = None if x.grid is None else Grid(np.asarray(6 / 255, np.float32), -128)
    inner = b.scratch(node.name, "relu6", x.shape, grid, x.order)
    relu6 = b.writer.choice("ActivationFunctionType", "RELU6")
    three = b.scalar(f"{node.name}{SCRATCH}three", 3.0, x.grid)
    b.writer.op("ADD", [x.index, three], [inner.index], ("AddOptions", {"fusedActivationFunction": relu6}))
    return inner


def _bound(b: Build, name: str, bound: float, grid: Grid | None) -> int:
    """A clip bound as a scalar: float32, or a code on the grid of the clipped tensor (MAXIMUM wants one grid)."""
    if grid is None:
        return b.scalar(name, bound, None)
    code = int(np.clip(np.rint(bound / float(grid.scale)) + grid.zero_point, -128, 127))
    return b.code(name, code, grid)
