"""Ops of two tensors, matrix products and layer normalization. One function per ONNX op."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.build import MAX_RANK, SCRATCH, Build, Value
from edge_unet.targets.tflite.layout import NHWC, Order, plain
from edge_unet.targets.tflite.ops_conv import output_limit, weight, write_bias, write_filter

MAX_MATMUL_RANK = 5


def add(b: Build, node: Node) -> None:
    """Add -> ADD."""
    _binary(b, node, "ADD", "AddOptions")


def sub(b: Build, node: Node) -> None:
    """Sub -> SUB."""
    _binary(b, node, "SUB", "SubOptions")


def mul(b: Build, node: Node) -> None:
    """Mul -> MUL."""
    _binary(b, node, "MUL", "MulOptions")


def div(b: Build, node: Node) -> None:
    """Div -> DIV, inside float islands only: LiteRT has no int8 kernel."""
    if not b.floats(node):
        raise GraphError(f"node {node.name!r} (Div): no int8 kernel divides; expected Div inside a float island")
    _binary(b, node, "DIV", "DivOptions")


def mat_mul(b: Build, node: Node) -> None:
    """MatMul with a constant right side -> FULLY_CONNECTED (an Add of a constant vector behind it becomes the bias);
    of two activations -> BATCH_MATMUL, which reads transposed operands as they lie."""
    if node.inputs[1] in b.values:
        _batch_mat_mul(b, node)
        return
    x = b.plain(node.inputs[0], node)
    filter_ = weight(b, node, axis=1)
    if filter_.values.ndim != 2:
        raise GraphError(f"node {node.name!r} (MatMul): expected a rank-2 weight, received {filter_.values.shape}")
    last_node, bias_name = _following_bias(b, node)
    destination = b.destination(last_node, fuse=True)
    kernel = write_filter(b, filter_, (1, 0), 0)  # (in, out) -> (out, in)
    channels = filter_.values.shape[1]
    bias = write_bias(b, node, x, filter_, channels, output_limit(destination.grid), name=bias_name)
    result = b.create(destination, plain(len(destination.shape)))
    activation = b.writer.choice("ActivationFunctionType", destination.activation)
    options = ("FullyConnectedOptions", {"keepNumDims": True, "fusedActivationFunction": activation})
    b.writer.op("FULLY_CONNECTED", [x.index, kernel, bias], [result.index], options)


def layer_normalization(b: Build, node: Node) -> None:
    """LayerNormalization over the last axes -> float32 arithmetic (its range defeats 8 bits), wherever those axes lie
    in the file; between a DEQUANTIZE and a QUANTIZE where the graph does not declare an island."""
    x = b.real(b.value(node.inputs[0], node), node.name)
    rank = len(x.shape)
    axes = range(int(node.attributes.get("axis", -1)) % rank, rank)
    places = [x.order.index(axis) for axis in axes]
    narrow = tuple(1 if place in places else size for place, size in enumerate(x.shape))
    constant = b.ints(node, "axes", places)
    keep = ("ReducerOptions", {"keepDims": True})

    def step(code: str, suffix: str, inputs: list[int], options: tuple[str, Mapping[str, object]] | None) -> int:
        shape = narrow if suffix in ("mean", "variance", "stable", "inverse") else x.shape
        result = b.scratch(node.name, suffix, shape, None, x.order)
        b.writer.op(code, inputs, [result.index], options)
        return result.index

    mean = step("MEAN", "mean", [x.index, constant], keep)
    squares = step("SQUARED_DIFFERENCE", "squares", [x.index, mean], ("SquaredDifferenceOptions", {}))
    variance = step("MEAN", "variance", [squares, constant], keep)
    epsilon = b.scalar(f"{node.name}{SCRATCH}epsilon", float(node.attributes.get("epsilon", 1e-5)), None)
    inverse = step("RSQRT", "inverse", [step("ADD", "stable", [variance, epsilon], ("AddOptions", {}))], None)
    centred = step("SUB", "centred", [x.index, mean], ("SubOptions", {}))
    chain = [("MUL", "normal", inverse)]
    chain += [("MUL", "scaled", b.fixed(node.inputs[1], x.order).index)]
    if len(node.inputs) > 2 and node.inputs[2]:
        chain += [("ADD", "shifted", b.fixed(node.inputs[2], x.order).index)]
    value = centred
    for code, suffix, operand in chain[:-1]:
        value = step(code, suffix, [value, operand], ("MulOptions", {}))
    destination = b.destination(node)
    result, quantize = b.result_on(destination, None, x.order)
    code, _, operand = chain[-1]
    b.writer.op(code, [value, operand], [result.index], ("AddOptions" if code == "ADD" else "MulOptions", {}))
    if quantize:
        b.notes.append(f"{node.name}: LayerNormalization computed in float32 by rule")
        b.quantize(result, destination)


def _batch_mat_mul(b: Build, node: Node) -> None:
    """BATCH_MATMUL of two activations; batch axes are joined where there are more than its kernel takes."""
    x, adjoint_x = _operand_of_product(b, node, node.inputs[0])
    y, adjoint_y = _operand_of_product(b, node, node.inputs[1])
    destination = b.destination(node)
    rank = len(destination.shape)
    result = b.create(destination, plain(rank))
    fields = {"adjX": adjoint_x, "adjY": adjoint_y}
    if rank <= MAX_MATMUL_RANK:
        b.writer.op("BATCH_MATMUL", [x.index, y.index], [result.index], ("BatchMatMulOptions", fields))
        return
    if x.shape[:-2] != y.shape[:-2]:
        raise GraphError(
            f"node {node.name!r} (MatMul): rank {rank} with batch axes {x.shape[:-2]} and {y.shape[:-2]}; expected "
            f"equal ones beyond rank {MAX_MATMUL_RANK}"
        )
    joined = []
    for name, value in (("left", x), ("right", y), ("product", result)):
        shape = (int(np.prod(value.shape[:-2])), *value.shape[-2:])
        joined.append(b.scratch(node.name, name, shape, value.grid, plain(3)))
    b.reshape(x, joined[0])
    b.reshape(y, joined[1])
    operands = [joined[0].index, joined[1].index]
    b.writer.op("BATCH_MATMUL", operands, [joined[2].index], ("BatchMatMulOptions", fields))
    b.reshape(joined[2], result)


def _operand_of_product(b: Build, node: Node, name: str) -> tuple[Value, bool]:
    """An operand in ONNX order, or with its last two axes swapped and BATCH_MATMUL told so."""
    value = b.value(name, node)
    rank = len(value.shape)
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    return (value, True) if value.order == swapped else (b.lay(value, plain(rank)), False)


def _binary(b: Build, node: Node, code: str, table: str) -> None:
    """Two operands, of which one may be a constant: any array in float, a scalar in int8. Both lie as the larger one
    does."""
    tensors = [b.value(name, node) for name in node.inputs if name not in b.graph.constants]
    destination = b.destination(node, fuse=True)
    rank = len(destination.shape)
    if rank > MAX_RANK:
        raise GraphError(f"node {node.name!r} ({node.op}): rank {rank}; expected at most {MAX_RANK}")
    largest = max(tensors, key=lambda value: (len(value.shape), int(np.prod(value.shape)), value.order == NHWC))
    order = _deeper(largest.order, rank)
    operands = [_operand(b, node, name, order, tensors[0]) for name in node.inputs]
    result = b.create(destination, order)
    activation = b.writer.choice("ActivationFunctionType", destination.activation)
    b.writer.op(code, operands, [result.index], (table, {"fusedActivationFunction": activation}))


def _operand(b: Build, node: Node, name: str, order: Order, other: Value) -> int:
    """An operand lying in `order`, in which broadcasting aligns the file's axes as ONNX aligns its own."""
    if name not in b.graph.constants:
        value = b.value(name, node)
        deeper = _deeper(value.order, len(order))
        if deeper == order:
            return value.index  # axes that only ONNX puts in front, TFLite puts there too
        if len(value.shape) < len(order):
            front = (1,) * (len(order) - len(value.shape))
            wide = b.scratch(node.name, "wide", front + value.shape, value.grid, deeper)
            b.reshape(value, wide)
            value = wide
        return b.lay(value, order).index
    array = b.graph.constants[name]
    if not b.floats(node) and array.size != 1:
        raise GraphError(
            f"node {node.name!r} ({node.op}): constant {name!r} of shape {array.shape} has no int8 grid; expected a "
            "scalar, or a constant quantized in the canonical graph"
        )
    if array.size == 1:
        return b.scalar(name, float(array.reshape(())), other.grid)
    return b.fixed(name, order).index


def _deeper(order: Order, rank: int) -> Order:
    """`order` of a tensor that got axes in front until it has `rank`."""
    front = rank - len(order)
    return (*range(front), *(axis + front for axis in order))


def _following_bias(b: Build, node: Node) -> tuple[Node, str]:
    """The Add of a constant vector that alone reads a MatMul, taken in, and that vector's name ('' for none)."""
    readers = b.graph.consumers.get(node.output, ())
    if len(readers) == 1 and readers[0].op == "Add" and node.output not in b.graph.outputs:
        constants = [name for name in readers[0].inputs if name in b.graph.constants]
        if constants and b.graph.constants[constants[0]].ndim == 1:
            b.take(readers[0])
            return readers[0], constants[0]
    return node, ""
