"""Elementwise ops, matrix products and normalizations. One function per ONNX op."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from edge_unet.canonical import Node
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.build import SCRATCH, Build, Destination, Value, clip_bounds
from edge_unet.targets.tflite.ops_conv import output_limit, weight, write_bias, write_filter

PROBABILITY = Grid(np.float32(1 / 256), -128)  # type: ignore[arg-type]
"""The one grid on which int8 LOGISTIC and SOFTMAX may write."""


def add(b: Build, node: Node) -> None:
    """Add -> ADD."""
    _binary(b, node, "ADD", "AddOptions")


def sub(b: Build, node: Node) -> None:
    """Sub -> SUB."""
    _binary(b, node, "SUB", "SubOptions")


def mul(b: Build, node: Node) -> None:
    """Mul -> MUL."""
    _binary(b, node, "MUL", "MulOptions")


def sigmoid(b: Build, node: Node) -> None:
    """Sigmoid -> LOGISTIC, then QUANTIZE to the portable grid."""
    x = b.value(node.inputs[0], node)
    _to_probability(b, node, x, lambda result: b.writer.op("LOGISTIC", [x.index], [result.index]))


def softmax(b: Build, node: Node) -> None:
    """Softmax over channels of an image or over the last axis -> SOFTMAX, then QUANTIZE to the portable grid."""
    x = b.value(node.inputs[0], node)
    rank = len(x.shape)
    axis = int(node.attributes.get("axis", -1)) % rank
    if rank == 4:
        x = b.image(node.inputs[0], node) if axis == 1 else b.plain(node.inputs[0], node)
    if axis != (1 if x.image else rank - 1):
        raise GraphError(
            f"node {node.name!r} (Softmax): axis {axis} of rank {rank}; expected channels or the last axis"
        )
    options = ("SoftmaxOptions", {"beta": 1.0})
    _to_probability(b, node, x, lambda result: b.writer.op("SOFTMAX", [x.index], [result.index], options))


def hard_sigmoid(b: Build, node: Node) -> None:
    """HardSigmoid with alpha 1/6, beta 1/2 (MobileNetV3) -> relu6(x + 3) * 1/6: no runtime has an int8 kernel."""
    alpha, beta = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
    if not np.isclose(alpha, 1 / 6, rtol=1e-5) or beta != 0.5:
        raise GraphError(f"node {node.name!r} (HardSigmoid): expected alpha 1/6 and beta 0.5, received {alpha}, {beta}")
    x = b.value(node.inputs[0], node)
    destination = b.destination(node)
    grid = None if x.grid is None else Grid(np.asarray(6 / 255, np.float32), -128)  # 0..6 on all 256 codes
    inner = b.scratch(destination.names[0], "relu6", x.shape, grid, image=x.image)
    relu6 = b.writer.choice("ActivationFunctionType", "RELU6")
    three = b.scalar(f"{node.name}{SCRATCH}three", 3.0, x.grid)
    b.writer.op("ADD", [x.index, three], [inner.index], ("AddOptions", {"fusedActivationFunction": relu6}))
    sixth = b.scalar(f"{node.name}{SCRATCH}sixth", 1 / 6, x.grid)
    result = b.create(destination, image=x.image)
    b.writer.op("MUL", [inner.index, sixth], [result.index], ("MulOptions", {}))


def clip(b: Build, node: Node) -> None:
    """Clip and Relu that no op in front could take in -> RELU, RELU6, or MAXIMUM and MINIMUM."""
    x = b.value(node.inputs[0], node)
    destination = b.destination(node)
    low, high = clip_bounds(b.graph, node)
    if low == 0 and high in (6.0, float("inf")):
        result = b.create(destination, image=x.image)
        b.writer.op("RELU6" if high == 6 else "RELU", [x.index], [result.index])
        return
    bounds = [(code, bound) for code, bound in (("MAXIMUM", low), ("MINIMUM", high)) if np.isfinite(bound)]
    value = x
    for place, (code, bound) in enumerate(bounds):
        if place < len(bounds) - 1:
            result, requantize = b.scratch(destination.names[0], code.lower(), x.shape, x.grid, image=x.image), False
        else:
            result, requantize = b.result_on(destination, x.grid, image=x.image)
        limit = _bound(b, f"{node.name}{SCRATCH}{code.lower()}", bound, x.grid)
        b.writer.op(code, [value.index, limit], [result.index], ("MaximumMinimumOptions", {}))
        value = result
        if requantize:
            b.quantize(result, destination)


def mat_mul(b: Build, node: Node) -> None:
    """MatMul with a constant right side -> FULLY_CONNECTED (an Add of a constant vector behind it becomes the bias);
    of two activations -> BATCH_MATMUL."""
    x = b.plain(node.inputs[0], node)
    if node.inputs[1] in b.values:
        y = b.plain(node.inputs[1], node)
        result = b.create(b.destination(node), image=False)
        b.writer.op("BATCH_MATMUL", [x.index, y.index], [result.index], ("BatchMatMulOptions", {}))
        return
    filter_ = weight(b, node, axis=1)
    if filter_.values.ndim != 2:
        raise GraphError(f"node {node.name!r} (MatMul): expected a rank-2 weight, received {filter_.values.shape}")
    last, bias_name = _following_bias(b, node)
    destination = b.destination(last, fuse=True)
    kernel = write_filter(b, filter_, (1, 0), 0)  # (in, out) -> (out, in)
    channels = filter_.values.shape[1]
    bias = write_bias(b, node, x, filter_, channels, output_limit(destination.grid), name=bias_name)
    result = b.create(destination, image=False)
    activation = b.writer.choice("ActivationFunctionType", destination.activation)
    options = ("FullyConnectedOptions", {"keepNumDims": True, "fusedActivationFunction": activation})
    b.writer.op("FULLY_CONNECTED", [x.index, kernel, bias], [result.index], options)


def layer_normalization(b: Build, node: Node) -> None:
    """LayerNormalization over the last axis -> float32 arithmetic by rule (its range defeats 8 bits), between a
    DEQUANTIZE and a QUANTIZE in an int8 graph."""
    rank = len(b.graph.shapes[node.output])
    if int(node.attributes.get("axis", -1)) % rank != rank - 1:
        raise GraphError(f"node {node.name!r} (LayerNormalization): expected the last axis")
    base = node.name
    x = b.real(b.plain(node.inputs[0], node), base)
    axis = b.constant(f"{base}{SCRATCH}axis", np.array([rank - 1], np.int32))
    narrow = (*x.shape[:-1], 1)
    keep = ("ReducerOptions", {"keepDims": True})

    def step(code: str, suffix: str, inputs: list[int], options: tuple[str, Mapping[str, object]] | None) -> int:
        shape = narrow if suffix in ("mean", "variance", "stable", "inverse") else x.shape
        result = b.scratch(base, suffix, shape, None, image=False)
        b.writer.op(code, inputs, [result.index], options)
        return result.index

    mean = step("MEAN", "mean", [x.index, axis], keep)
    squares = step("SQUARED_DIFFERENCE", "squares", [x.index, mean], ("SquaredDifferenceOptions", {}))
    variance = step("MEAN", "variance", [squares, axis], keep)
    epsilon = b.scalar(f"{base}{SCRATCH}epsilon", float(node.attributes.get("epsilon", 1e-5)), None)
    inverse = step("RSQRT", "inverse", [step("ADD", "stable", [variance, epsilon], ("AddOptions", {}))], None)
    centred = step("SUB", "centred", [x.index, mean], ("SubOptions", {}))
    normal = step("MUL", "normal", [centred, inverse], ("MulOptions", {}))
    gain = b.constant(node.inputs[1], b.graph.constant(node.inputs[1], node).astype(np.float32))
    offset = b.graph.constant(node.inputs[2], node) if len(node.inputs) > 2 else np.zeros(x.shape[-1])
    scaled = step("MUL", "scaled", [normal, gain], ("MulOptions", {}))
    shift = b.constant(f"{base}{SCRATCH}offset", offset.astype(np.float32))
    destination = b.destination(node)
    result, quantize = b.result_on(destination, None, image=False)
    b.writer.op("ADD", [scaled, shift], [result.index], ("AddOptions", {}))
    if quantize:
        b.notes.append(f"{base}: LayerNormalization computed in float32 by rule")
        b.quantize(result, destination)


def _binary(b: Build, node: Node, code: str, table: str) -> None:
    """Two operands, of which one may be a constant: any array in a float graph, a scalar in an int8 graph."""
    rank = len(b.graph.shapes[node.output])
    tensors = [name for name in node.inputs if name in b.values]
    image = rank == 4 and any(b.values[name].image for name in tensors)
    destination = b.destination(node, fuse=True)
    operands = [_operand(b, node, name, image) for name in node.inputs]
    result = b.create(destination, image=image)
    activation = b.writer.choice("ActivationFunctionType", destination.activation)
    b.writer.op(code, operands, [result.index], (table, {"fusedActivationFunction": activation}))


def _operand(b: Build, node: Node, name: str, image: bool) -> int:
    if name not in b.graph.constants:
        return (b.image(name, node) if image else b.plain(name, node)).index
    array = b.graph.constants[name].astype(np.float32)
    if b.int8 and array.size != 1:
        raise GraphError(
            f"node {node.name!r} ({node.op}): constant {name!r} of shape {array.shape} has no int8 grid; expected a "
            "scalar, or a constant quantized in the canonical graph"
        )
    if array.size == 1:
        step = b.values[next(n for n in node.inputs if n in b.values)].grid
        return b.scalar(name, float(array.reshape(())), step)
    if image and array.ndim == 4:
        array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))  # (N, H, W, C)
    elif image:
        raise GraphError(f"node {node.name!r} ({node.op}): constant {name!r} beside an image must have rank 4")
    return b.constant(name, array)


def _to_probability(b: Build, node: Node, x: Value, write: Callable[[Value], None]) -> None:
    """Write an op whose int8 kernel knows only the grid PROBABILITY, then QUANTIZE to the canonical one."""
    destination: Destination = b.destination(node)
    result, requantize = b.result_on(destination, None if x.grid is None else PROBABILITY, image=x.image)
    write(result)
    if requantize:
        b.quantize(result, destination)


def _bound(b: Build, name: str, bound: float, grid: Grid | None) -> int:
    """A clip bound as a scalar: float32, or a code on the grid of the clipped tensor (MAXIMUM wants one grid)."""
    if grid is None:
        return b.scalar(name, bound, None)
    code = int(np.clip(np.rint(bound / float(grid.scale)) + grid.zero_point, -128, 127))
    return b.code(name, code, grid)


def _following_bias(b: Build, node: Node) -> tuple[Node, str]:
    """The Add of a constant vector that alone reads a MatMul, taken in, and that vector's name ('' for none)."""
    readers = b.graph.consumers.get(node.output, ())
    if len(readers) == 1 and readers[0].op == "Add" and node.output not in b.graph.outputs:
        constants = [name for name in readers[0].inputs if name in b.graph.constants]
        if constants and b.graph.constants[constants[0]].ndim == 1:
            b.take(readers[0])
            return readers[0], constants[0]
    return node, ""
