"""Rules about integers and scales: weights, activations, the fixed input and logit grids.

Each rule is a generator that yields (node, message) per breach; its docstring says which runtime needs it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import TensorProto, helper

from edge_unet.canonical.graph import CanonicalGraph, Node
from edge_unet.core.errors import ArtifactError
from edge_unet.core.spec import QuantScheme

Finding = tuple[str, str]
"""(node or tensor name, message)."""

INPUT_SCALE = 1 / 64
LOGIT_SCALE = 1 / 16
SMALLEST_SCALE = 2.0**-14
"""6.1e-5, the smallest normal fp16 number: Core ML stores scales in fp16 and flushes smaller ones."""

WEIGHT_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def q_nodes(graph: CanonicalGraph) -> Iterator[Node]:
    """The activation quantizers, in graph order."""
    return (n for n in graph.nodes if n.op == "QuantizeLinear" and n.inputs[0] not in graph.constants)


def _scheme(graph: CanonicalGraph) -> QuantScheme:
    """The scheme the metadata names; portable where the metadata itself is broken (its own rule says so)."""
    try:
        return graph.metadata.scheme
    except ArtifactError:
        return QuantScheme.PORTABLE


def code_type(graph: CanonicalGraph, node: Node) -> str:
    """The integer type a QuantizeLinear writes: that of its zero point, else output_dtype, else uint8 (ONNX)."""
    if len(node.inputs) > 2 and node.inputs[2]:
        return str(graph.constants[node.inputs[2]].dtype)
    declared = int(node.attributes.get("output_dtype", TensorProto.UNDEFINED))
    return "uint8" if declared == TensorProto.UNDEFINED else str(helper.tensor_dtype_to_np_dtype(declared))


def data_inputs(graph: CanonicalGraph, node: Node) -> list[str]:
    """Inputs that carry activations: not constants, not dequantized weights, not biases, not empty."""
    inputs = node.inputs[:2] if node.op in WEIGHT_OPS else node.inputs
    return [i for i in inputs if i and i not in graph.constants and i not in graph.weights]


def constant_grids(graph: CanonicalGraph) -> Iterator[Finding]:
    """Every scale and zero point is a constant, and zero points do not differ between channels."""
    for node in graph.nodes:
        if node.op not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        for name in (i for i in node.inputs[1:] if i):
            if name not in graph.constants:
                yield node.name, f"expected a constant scale and zero point, received the computed tensor {name!r}"
            elif name in node.inputs[2:] and np.unique(graph.constants[name]).size > 1:
                yield node.name, f"expected one zero point for the whole tensor, received several in {name!r}"


def weights_dequantize_only(graph: CanonicalGraph) -> Iterator[Finding]:
    """Weights are int8 initializers behind one DequantizeLinear. Float weights behind a QuantizeLinear saturate at
    -128 and are recomputed by every runtime; bare float weights make the layer float."""
    for node in graph.nodes:
        if node.op == "QuantizeLinear" and node.inputs[0] in graph.constants:
            yield (
                node.name,
                f"expected a stored int8 weight, received QuantizeLinear on the constant {node.inputs[0]!r}",
            )
        elif node.op in WEIGHT_OPS and node.inputs[1] in graph.constants:
            kind = graph.constants[node.inputs[1]].dtype
            yield node.name, f"expected an int8 weight behind DequantizeLinear, received {node.inputs[1]!r} as {kind}"


def weights_symmetric(graph: CanonicalGraph) -> Iterator[Finding]:
    """Weight codes lie in [-127, 127] with zero point 0: kernels use the symmetric range (TFLite, TensorRT)."""
    for weight in graph.weights.values():
        if weight.values.dtype != np.int8:
            yield weight.name, f"expected int8 weights, received {weight.values.dtype}"
            continue
        if weight.grid.zero_point != 0:
            yield weight.name, f"expected zero point 0, received {weight.grid.zero_point}"
        if low := int((weight.values < -127).sum()):
            yield weight.name, f"expected codes in [-127, 127], received {low} of -128"


def weights_per_channel(graph: CanonicalGraph) -> Iterator[Finding]:
    """One weight scale per output channel, on the op's own axis (0 Conv, 1 ConvTranspose, last MatMul)."""
    for node in graph.nodes:
        if node.op not in WEIGHT_OPS or node.inputs[1] not in graph.weights:
            continue
        weight = graph.weights[node.inputs[1]]
        gemm = 0 if int(node.attributes.get("transB", 0)) else 1
        axis = {"Conv": 0, "ConvTranspose": 1, "Gemm": gemm}.get(node.op, weight.values.ndim - 1)
        if weight.grid.scale.size == 1 and weight.values.shape[axis] == 1:
            continue
        received = weight.axis % weight.values.ndim
        if weight.grid.scale.size == 1 or received != axis:
            what = "one scale for all" if weight.grid.scale.size == 1 else f"axis {received}"
            yield node.name, f"weight {weight.name!r}: expected one scale per channel on axis {axis}, received {what}"


def bias_float(graph: CanonicalGraph) -> Iterator[Finding]:
    """Biases are float32 constants; each target rounds them to its own accumulator grid."""
    for node in graph.nodes:
        if node.op not in ("Conv", "ConvTranspose", "Gemm") or len(node.inputs) < 3 or not node.inputs[2]:
            continue
        bias = graph.constants.get(node.inputs[2])
        if bias is None or bias.dtype != np.float32:
            received = "a computed tensor" if bias is None else str(bias.dtype)
            yield node.name, f"bias {node.inputs[2]!r}: expected a float32 constant, received {received}"


def bias_on_grid(graph: CanonicalGraph) -> Iterator[Finding]:
    """Each bias is a multiple of input scale * weight scale. Integer kernels round it there (TFLite, ONNX Runtime,
    XNNPACK); float ones do not, and a bias in between moves one activation in a thousand to another code."""
    for node in graph.nodes:
        if node.op not in ("Conv", "ConvTranspose", "Gemm") or len(node.inputs) < 3:
            continue
        bias, weight = graph.constants.get(node.inputs[2]), graph.weights.get(node.inputs[1])
        source = graph.producers.get(node.inputs[0])
        if bias is None or weight is None or source is None or source.op != "DequantizeLinear":
            continue
        scale = graph.constants[source.inputs[1]].reshape(-1)
        if scale.size != 1 or bias.size % weight.grid.scale.size:
            continue
        channels = np.resize(weight.grid.scale.astype(np.float64), bias.size)  # groups of a ConvTranspose share scales
        step = scale.astype(np.float64) * channels
        codes = bias.reshape(-1).astype(np.float64) / step
        nearest = np.rint(codes)
        # Two float32 roundings, of the step and of the product, each move a bias by 2**-24 of itself.
        off = np.abs(codes - nearest) > 1e-3 + np.abs(nearest) * 2.0**-22
        if off.any():
            first = int(np.argmax(off))
            yield (
                node.name,
                f"bias {node.inputs[2]!r}: expected multiples of input scale * weight scale, received "
                f"{codes[first]:.3f} steps in channel {first} ({int(off.sum())} of {off.size} channels are off)",
            )


def activations_per_tensor(graph: CanonicalGraph) -> Iterator[Finding]:
    """One scale per activation tensor: no runtime takes per-channel activations."""
    for node in q_nodes(graph):
        if (count := graph.activations[node.output].scale.size) != 1:
            yield node.name, f"expected one scale for the tensor, received {count}"


def activations_int8(graph: CanonicalGraph) -> Iterator[Finding]:
    """Portable scheme: activations are int8 with zero point 0; TensorRT takes nothing else."""
    if _scheme(graph) is not QuantScheme.PORTABLE:
        return
    for node in q_nodes(graph):
        kind, zero = code_type(graph, node), graph.activations[node.output].zero_point
        if kind != "int8" or zero != 0:
            yield node.name, f"expected int8 with zero point 0 (portable scheme), received {kind} with {zero}"


def activations_affine(graph: CanonicalGraph) -> Iterator[Finding]:
    """Affine scheme: activations are uint8 with any zero point; x64 kernels fuse only those."""
    if _scheme(graph) is not QuantScheme.AFFINE:
        return
    for node in q_nodes(graph):
        if (kind := code_type(graph, node)) != "uint8":
            yield node.name, f"expected uint8 (affine scheme), received {kind}"


def scales_fp16(graph: CanonicalGraph) -> Iterator[Finding]:
    """Scales are fp16 numbers >= 6.1e-5: Core ML stores them in fp16, so only those are equal everywhere."""
    grids = [*graph.activations.items(), *((w.name, w.grid) for w in graph.weights.values())]
    for name, grid in grids:
        scale = grid.scale.reshape(-1)
        with np.errstate(over="ignore"):
            bad = scale[~((scale >= SMALLEST_SCALE) & (scale.astype(np.float16).astype(np.float32) == scale))]
        if bad.size:
            yield name, f"expected fp16 scales >= 6.1e-5, received {float(bad[0])!r} ({bad.size} of {scale.size})"


def input_quantizer(graph: CanonicalGraph) -> Iterator[Finding]:
    """The input is read by one quantizer with scale 1/64, code = pixel - 128 (int8) or pixel (uint8)."""
    for node in graph.consumers.get(graph.input, ()):
        if node.op != "QuantizeLinear":
            yield node.name, f"expected QuantizeLinear to read {graph.input!r}, received {node.op}"
            continue
        grid, zero = graph.activations[node.output], 128 if code_type(graph, node) == "uint8" else 0
        if grid.scale.reshape(-1).tolist() != [INPUT_SCALE] or grid.zero_point != zero:
            received = f"{grid.scale.tolist()} and {grid.zero_point}"
            yield node.name, f"expected scale 1/64 and zero point {zero}, received {received}"


def logits_quantizer(graph: CanonicalGraph) -> Iterator[Finding]:
    """The output comes from a Q/DQ pair with scale 1/16, so that every target cuts at the same logit."""
    for name in graph.outputs:
        node = graph.producers[name]
        if node.op != "DequantizeLinear":
            yield node.name, f"expected DequantizeLinear to make {name!r}, received {node.op}"
        elif (scale := graph.constants[node.inputs[1]].reshape(-1).tolist()) != [LOGIT_SCALE]:
            yield node.name, f"expected scale 1/16, received {scale}"
