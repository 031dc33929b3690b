"""Activations, arithmetic, normalisation and matrix products."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_unet.canonical import Node
from edge_unet.targets.coreml.build import Build, check_attribute


def clip(build: Build, node: Node) -> Any:
    """Clip with constant bounds. (0, 6) and (0, inf) have MIL ops of their own, which the compiler fuses best."""
    low, high = build.constant(node, 1), build.constant(node, 2)
    alpha = -np.inf if low is None else float(low)
    beta = np.inf if high is None else float(high)
    alpha = -np.inf if alpha < -1e38 else alpha  # exporters write the largest float for 'no bound'
    beta = np.inf if beta > 1e38 else beta
    x, name = build.operand(node, 0), build.title(node)
    if (alpha, beta) == (0.0, 6.0):
        return build.mil.relu6(x=x, name=name)
    if (alpha, beta) == (0.0, np.inf):
        return build.mil.relu(x=x, name=name)
    return build.mil.clip(x=x, alpha=np.float32(alpha), beta=np.float32(beta), name=name)


def relu(build: Build, node: Node) -> Any:
    """Relu."""
    return build.mil.relu(x=build.operand(node, 0), name=build.title(node))


def sigmoid(build: Build, node: Node) -> Any:
    """Sigmoid."""
    return build.mil.sigmoid(x=build.operand(node, 0), name=build.title(node))


def tanh(build: Build, node: Node) -> Any:
    """Tanh."""
    return build.mil.tanh(x=build.operand(node, 0), name=build.title(node))


def erf(build: Build, node: Node) -> Any:
    """Erf."""
    return build.mil.erf(x=build.operand(node, 0), name=build.title(node))


def gelu(build: Build, node: Node) -> Any:
    """Gelu, exact or with the tanh approximation."""
    mode = "EXACT" if node.attributes.get("approximate", "none") == "none" else "TANH_APPROXIMATION"
    return build.mil.gelu(x=build.operand(node, 0), mode=mode, name=build.title(node))


def hard_sigmoid(build: Build, node: Node) -> Any:
    """HardSigmoid: clip(alpha * x + beta, 0, 1)."""
    alpha = np.float32(node.attributes.get("alpha", 0.2))
    beta = np.float32(node.attributes.get("beta", 0.5))
    return build.mil.sigmoid_hard(x=build.operand(node, 0), alpha=alpha, beta=beta, name=build.title(node))


def hard_swish(build: Build, node: Node) -> Any:
    """HardSwish: x * clip(x / 6 + 1/2, 0, 1)."""
    x, name = build.operand(node, 0), build.title(node)
    gate = build.mil.sigmoid_hard(x=x, alpha=np.float32(1 / 6), beta=np.float32(0.5), name=build.part(node, "gate"))
    return build.mil.mul(x=x, y=gate, name=name)


def exp(build: Build, node: Node) -> Any:
    """Exp."""
    return build.mil.exp(x=build.operand(node, 0), name=build.title(node))


def log(build: Build, node: Node) -> Any:
    """Log. MIL adds an epsilon to x, 1e-45 unless told: the smallest denormal, which changes no normal number."""
    return build.mil.log(x=build.operand(node, 0), name=build.title(node))


def sqrt(build: Build, node: Node) -> Any:
    """Sqrt."""
    return build.mil.sqrt(x=build.operand(node, 0), name=build.title(node))


def neg(build: Build, node: Node) -> Any:
    """Neg, as a product with -1: MIL has no negation."""
    return build.mil.mul(x=build.operand(node, 0), y=np.float32(-1), name=build.title(node))


def softplus(build: Build, node: Node) -> Any:
    """Softplus: log(1 + exp(x))."""
    return build.mil.softplus(x=build.operand(node, 0), name=build.title(node))


def softmax(build: Build, node: Node) -> Any:
    """Softmax along one axis."""
    axis = int(node.attributes.get("axis", -1))
    return build.mil.softmax(x=build.operand(node, 0), axis=axis, name=build.title(node))


def add(build: Build, node: Node) -> Any:
    """Add with broadcasting."""
    return build.mil.add(x=build.operand(node, 0), y=build.operand(node, 1), name=build.title(node))


def sub(build: Build, node: Node) -> Any:
    """Sub with broadcasting."""
    return build.mil.sub(x=build.operand(node, 0), y=build.operand(node, 1), name=build.title(node))


def mul(build: Build, node: Node) -> Any:
    """Mul with broadcasting."""
    return build.mil.mul(x=build.operand(node, 0), y=build.operand(node, 1), name=build.title(node))


def div(build: Build, node: Node) -> Any:
    """Div with broadcasting."""
    return build.mil.real_div(x=build.operand(node, 0), y=build.operand(node, 1), name=build.title(node))


def matmul(build: Build, node: Node) -> Any:
    """MatMul of two tensors or a tensor and a weight."""
    return build.mil.matmul(x=build.operand(node, 0), y=build.operand(node, 1), name=build.title(node))


def gemm(build: Build, node: Node) -> Any:
    """Gemm with alpha = beta = 1: a matrix product and an optional bias."""
    check_attribute(node, "alpha", (1.0,))
    check_attribute(node, "beta", (1.0,))
    name, biased = build.title(node), len(node.inputs) > 2 and node.inputs[2] != ""
    product = build.mil.matmul(
        x=build.operand(node, 0),
        y=build.operand(node, 1),
        transpose_x=bool(node.attributes.get("transA", 0)),
        transpose_y=bool(node.attributes.get("transB", 0)),
        name=build.part(node, "product") if biased else name,
    )
    return build.mil.add(x=product, y=build.operand(node, 2), name=name) if biased else product


def layer_normalization(build: Build, node: Node) -> Any:
    """LayerNormalization over the axes from `axis` on, as the one MIL op."""
    if len(node.outputs) != 1:
        raise build.refuse(node, "outputs", "only the normalised tensor", len(node.outputs))
    rank = len(build.shape(node.inputs[0]))
    axis = int(node.attributes.get("axis", -1)) % rank
    gamma, beta = build.constant(node, 1), build.constant(node, 2)
    if gamma is None:
        raise build.refuse(node, "scale", "a constant second input", "none")
    return build.mil.layer_norm(
        x=build.operand(node, 0),
        axes=list(range(axis, rank)),
        gamma=gamma.astype(np.float32),
        beta=np.zeros_like(gamma, np.float32) if beta is None else beta.astype(np.float32),
        epsilon=np.float32(node.attributes.get("epsilon", 1e-5)),
        name=build.title(node),
    )
