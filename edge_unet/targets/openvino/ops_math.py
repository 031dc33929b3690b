"""Elementwise ops, reductions and products as OpenVINO operators."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edge_unet.canonical import Node
from edge_unet.targets.openvino.ir import MARK, IrGraph

Op = Callable[[Node, IrGraph], None]


def Clip(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Clamp with constant bounds."""
    bounds = [float(ir.graph.constant(name, node)) if name else None for name in node.inputs[1:3]]
    low = -np.inf if not bounds or bounds[0] is None else bounds[0]
    high = np.inf if len(bounds) < 2 or bounds[1] is None else bounds[1]
    ir.put(node, ir.ops.clamp(ir.value(node.inputs[0], node), float(low), float(high)))


def GlobalAveragePool(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Mean over H and W, kept as 1x1."""
    ir.put(node, ir.ops.reduce_mean(ir.value(node.inputs[0], node), np.array([2, 3], np.int64), True))


def GlobalMaxPool(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Largest value over H and W, kept as 1x1."""
    ir.put(node, ir.ops.reduce_max(ir.value(node.inputs[0], node), np.array([2, 3], np.int64), True))


def reduction(operator: str) -> Op:
    """Over constant axes, or over all where there are none."""

    def lower(node: Node, ir: IrGraph) -> None:
        rank = len(ir.graph.shapes[node.inputs[0]])
        axes = ir.graph.constant(node.inputs[1], node) if len(node.inputs) > 1 else np.arange(rank)
        keep = bool(node.attributes.get("keepdims", 1))
        ir.put(node, getattr(ir.ops, operator)(ir.value(node.inputs[0], node), axes.astype(np.int64), keep))

    return lower


def HardSigmoid(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """clamp(alpha x + beta, 0, 1)."""
    alpha, beta = float(node.attributes.get("alpha", 0.2)), float(node.attributes.get("beta", 0.5))
    ir.put(node, ir.ops.hard_sigmoid(ir.value(node.inputs[0], node), np.float32(alpha), np.float32(beta)))


def Softmax(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Softmax over one axis."""
    rank = len(ir.graph.shapes[node.inputs[0]])
    ir.put(node, ir.ops.softmax(ir.value(node.inputs[0], node), int(node.attributes.get("axis", -1)) % rank))


def MatMul(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Matrix product."""
    ir.put(node, ir.ops.matmul(*ir.values(node), False, False))


def LayerNormalization(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """Mean-variance normalisation over the last axes, then scale and bias.

    Over rows of rank 4, which the plugin computes as two reductions and a product. Its one MVN kernel, which it has
    for rank 3 at the same speed, gets integers in an INT8 graph: their scale is dropped, but epsilon is left as it is.
    With a variance near epsilon every second code then differs (seen in 2026.4).
    """
    shape = ir.graph.shapes[node.inputs[0]]
    axis = int(node.attributes.get("axis", -1)) % len(shape)
    rows = np.array([1, 1, math.prod(shape[:axis]), math.prod(shape[axis:])], np.int64)
    x, *affine = ir.values(node)
    x = ir.ops.reshape(x, rows, False)
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    normal = ir.ops.mvn(x, ir.ops.constant(np.array([3], np.int64)), True, epsilon, "inside_sqrt")
    normal = ir.ops.reshape(ir.name(normal, f"{node.name}{MARK}normal"), np.array(shape, np.int64), False)
    made = ir.ops.multiply(normal, affine[0])
    ir.put(node, ir.ops.add(made, affine[1]) if len(affine) > 1 else made)


def Gelu(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """x / 2 * (1 + erf(x / sqrt 2)), or its tanh approximation where the node says so."""
    tanh = node.attributes.get("approximate", "none") == "tanh"
    ir.put(node, ir.ops.gelu(ir.value(node.inputs[0], node), "tanh" if tanh else "erf"))


def same_name(operator: str) -> Op:
    """An op whose OpenVINO twin takes the same inputs and has no attributes."""

    def lower(node: Node, ir: IrGraph) -> None:
        ir.put(node, getattr(ir.ops, operator)(*ir.values(node)))

    return lower
