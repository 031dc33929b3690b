"""What TensorRT needs of a Q/DQ graph beyond the canonical rules, checked on the kit's own graph without TensorRT.

Source: TensorRT Developer Guide, "Working with Quantized Types" (explicit quantization, Q/DQ placement
recommendations), and the operator table of its ONNX parser (onnx-tensorrt, docs/operators.md of 10.1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edge_unet.canonical import CanonicalGraph
from edge_unet.canonical.rules import RULES, Rule
from edge_unet.canonical.rules_grids import Finding, code_type, q_nodes
from edge_unet.core.registry import registry

OPSET = 20
"""The parser of TensorRT 10.3 (JetPack 6) was made for ONNX 1.16; 21 only added types that the kit does not use."""

OPS = frozenset(
    {"Add", "AveragePool", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "CumSum", "DepthToSpace",
     "DequantizeLinear", "Div", "Einsum", "Elu", "Erf", "Exp", "Expand", "Flatten", "Gather", "Gelu", "Gemm",
     "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LayerNormalization", "LeakyRelu",
     "Log", "MatMul", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Pow", "QuantizeLinear", "ReduceMax",
     "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "ScatterND", "Sigmoid", "Slice", "Softmax", "Softplus",
     "SpaceToDepth", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze"}
)  # fmt: skip

CONSTANT_PARAMETERS = frozenset(
    {"CumSum", "Expand", "Gather", "Pad", "ReduceMax", "ReduceMean", "ReduceSum", "Reshape", "Slice", "Split",
     "Squeeze", "Tile", "Unsqueeze"}
)  # fmt: skip
"""Ops whose inputs after the first say how, not what."""


def known_ops(graph: CanonicalGraph) -> Iterator[Finding]:
    """Every op is one that TensorRT's ONNX parser imports without a plugin."""
    for node in graph.nodes:
        if node.op not in OPS:
            yield node.name, f"expected one of {', '.join(sorted(OPS))}; received {node.op}"


def integers(graph: CanonicalGraph) -> Iterator[Finding]:
    """Activations are int8 with zero point 0 whatever the scheme says: the parser refuses any other."""
    for node in q_nodes(graph):
        kind, zero = code_type(graph, node), graph.activations[node.output].zero_point
        if kind != "int8" or zero != 0:
            yield node.name, f"expected int8 with zero point 0, received {kind} with {zero}; use the portable scheme"


def float_output(graph: CanonicalGraph) -> Iterator[Finding]:
    """No Q/DQ right before the output: it would cost a kernel that only rounds."""
    for name in graph.outputs:
        node = graph.producers[name]
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            yield node.name, f"expected a float layer to make {name!r}, received {node.op}"


def parser_opset(graph: CanonicalGraph) -> Iterator[Finding]:
    """An opset that the parser of TensorRT 10.3 knows."""
    for entry in graph.model.opset_import:
        if entry.domain in ("", "ai.onnx") and entry.version > OPSET:
            yield "", f"expected opset {OPSET} or older, received {entry.version}"


def constant_parameters(graph: CanonicalGraph) -> Iterator[Finding]:
    """Axes, shapes, starts and indices are constants: the parser refuses computed axes, and a computed shape makes
    the engine dynamic."""
    for node in graph.nodes:
        for name in node.inputs[1:] if node.op in CONSTANT_PARAMETERS else ():
            if name and name not in graph.constants:
                yield node.name, f"expected a constant, received the computed tensor {name!r}"


CANONICAL_ELSEWHERE = frozenset({"opset", "logits-quantizer", "activations-int8", "activations-affine", "bias-on-grid"})
"""Canonical rules that the kit's graph replaces by its own, or that TensorRT, with float biases, does not need."""

RULES_FOR_TENSORRT: Mapping[str, Rule] = registry(
    [
        *((name, rule) for name, rule in RULES.items() if name not in CANONICAL_ELSEWHERE),
        ("tensorrt-ops", known_ops),
        ("tensorrt-constant-parameters", constant_parameters),
        ("tensorrt-int8-zero-point-0", integers),
        ("tensorrt-float-output", float_output),
        ("tensorrt-opset", parser_opset),
    ]
)
"""The kit's INT8 graph keeps all of these: ±127 weights per channel on the right axis, Q/DQ pairs, one scale over
Concat, both inputs of Add quantized, LayerNormalization as one op, and the five above."""
