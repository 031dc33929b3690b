"""The rules of the canonical graph: what must hold so that one set of integers serves every target.

Each rule is one small generator that yields (node, message) per breach; `RULES` names them. A rule exists because
some runtime fails, falls back to float or changes a number without it; the docstring of each says which.
Rules of `GROUND` must hold before the others can be evaluated at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from edge_unet.canonical.graph import CanonicalGraph, Node, load_graph
from edge_unet.core.errors import ArtifactError, GraphError
from edge_unet.core.registry import registry
from edge_unet.core.spec import QuantScheme

OPSET = 21
INPUT, OUTPUT = "image", "logits"
INPUT_SCALE = 1 / 64
LOGIT_SCALE = 1 / 16
SMALLEST_SCALE = 2.0**-14
"""6.1e-5, the smallest normal fp16 number: Core ML stores scales in fp16 and flushes smaller ones."""

WEIGHT_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
FUSING_OPS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add"})
"""Ops whose kernels absorb a following Relu or Clip."""
ACTIVATIONS = frozenset(
    {"Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu", "Elu"}
)
MOVING_OPS = frozenset(
    {"Concat", "Resize", "MaxPool", "AveragePool", "Pad", "Slice", "Reshape", "Transpose", "Split", "Squeeze",
     "Unsqueeze", "Flatten", "Expand", "Gather", "Tile", "DepthToSpace", "SpaceToDepth"}
)  # fmt: skip
"""Ops that move or average codes without arithmetic on the scale: input and output share one grid."""
FLOAT_ISLANDS: Mapping[str, str] = {
    "LayerNormalization": "variance over channels needs more than 8 bits; every runtime has a float kernel for it",
    "Softmax": "exp spans many octaves; int8 attention loses small weights",
    "Exp": "selective scan: the decay exp(dt * A) is a product over the whole sequence",
    "Softplus": "selective scan: step sizes span decades",
    "Log": "selective scan in log space",
    "CumSum": "selective scan: running sums outgrow a per-tensor scale",
    "Einsum": "selective scan: products of float states",
    "ScatterND": "selective scan: writes into float states",
}
"""Ops that stay float, each with the written reason. Elementwise and moving ops between them stay float too; an
island ends at the next QuantizeLinear, and no op with weights may read from inside it."""

Finding = tuple[str, str]
Rule = Callable[[CanonicalGraph], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Violation:
    """One breach of one rule. `node` is the node's (or tensor's) name, '' for the whole file."""

    rule: str
    node: str
    message: str

    def __str__(self) -> str:
        return f"[{self.rule}] {self.node or 'graph'}: {self.message}"


def _q_nodes(graph: CanonicalGraph) -> Iterator[Node]:
    return (n for n in graph.nodes if n.op == "QuantizeLinear")


def _scheme(graph: CanonicalGraph) -> QuantScheme:
    """The scheme the metadata names; portable where the metadata itself is broken (its own rule says so)."""
    try:
        return graph.metadata.scheme
    except ArtifactError:
        return QuantScheme.PORTABLE


def _code_type(graph: CanonicalGraph, node: Node) -> str:
    """The integer type a QuantizeLinear writes: that of its zero point, else output_dtype, else uint8 (ONNX)."""
    if len(node.inputs) > 2 and node.inputs[2]:
        return str(graph.constants[node.inputs[2]].dtype)
    declared = int(node.attributes.get("output_dtype", TensorProto.UNDEFINED))
    return "uint8" if declared == TensorProto.UNDEFINED else str(helper.tensor_dtype_to_np_dtype(declared))


def _scale_of_float(graph: CanonicalGraph, name: str) -> float | None:
    """The per-tensor activation scale behind a float tensor; None where it is not a dequantized activation."""
    codes = graph.quantized(name)
    if codes is None or codes not in graph.activations or graph.activations[codes].scale.size != 1:
        return None
    return float(graph.activations[codes].scale.reshape(-1)[0])


def _scales_after(graph: CanonicalGraph, name: str) -> list[float]:
    """Per-tensor scales of the quantizers that read a float tensor."""
    readers = [n for n in graph.consumers.get(name, ()) if n.op == "QuantizeLinear"]
    grids = [graph.activations[n.output].scale for n in readers]
    return [float(scale.reshape(-1)[0]) for scale in grids if scale.size == 1]


def _data_inputs(graph: CanonicalGraph, node: Node) -> list[str]:
    """Inputs that carry activations: not constants, not dequantized weights, not empty."""
    return [i for i in node.inputs if i and i not in graph.constants and i not in graph.weights]


def _island_tensors(graph: CanonicalGraph) -> set[str]:
    """Float tensors inside an island: made by an island op, or by an op without weights that reads such a tensor."""
    inside: set[str] = set()
    for node in graph.nodes:
        carries = node.op not in WEIGHT_OPS and node.op not in ("QuantizeLinear", "DequantizeLinear")
        if node.op in FLOAT_ISLANDS or (carries and any(i in inside for i in node.inputs)):
            inside.update(node.outputs)
    return inside


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


def static_shapes(graph: CanonicalGraph) -> Iterator[Finding]:
    """Every tensor has a known, positive shape: phones and TensorRT kits are built for one size."""
    for node in graph.nodes:
        for name in node.outputs:
            shape = graph.shapes.get(name)
            if shape is None or any(size <= 0 for size in shape):
                yield node.name, f"tensor {name!r}: expected a static shape, received {shape or 'an unknown one'}"


def opset(graph: CanonicalGraph) -> Iterator[Finding]:
    """ONNX opset 21 and no other operator domain."""
    for entry in graph.model.opset_import:
        if entry.domain not in ("", "ai.onnx"):
            yield "", f"expected only the ONNX operator domain, received {entry.domain!r}"
        elif entry.version != OPSET:
            yield "", f"expected opset {OPSET}, received {entry.version}"


def metadata_fits(graph: CanonicalGraph) -> Iterator[Finding]:
    """The metadata blob is there and describes this graph: size, channels, classes, input grid."""
    try:
        metadata = graph.metadata
    except ArtifactError as error:
        yield "", str(error)
        return
    pre = metadata.preprocess
    shape, logits = graph.shapes[graph.input], graph.shapes[graph.outputs[0]]
    if (size := (pre.channels, pre.height, pre.width)) != shape[1:]:
        yield graph.input, f"metadata expects (C, H, W) {size}, received {shape[1:]}"
    if len(logits) < 2 or metadata.classes.channels != logits[1]:
        yield graph.outputs[0], f"metadata expects {metadata.classes.channels} logit channels, received shape {logits}"
    if (pre.mean, pre.scale) != (128.0, INPUT_SCALE):
        yield graph.input, f"expected mean 128 and scale 1/64 (codes are pixels), received {pre.mean} and {pre.scale}"


def interface(graph: CanonicalGraph) -> Iterator[Finding]:
    """One float32 input 'image', one float32 output 'logits'."""
    if graph.input != INPUT:
        yield graph.input, f"expected the input to be named {INPUT!r}, received {graph.input!r}"
    if graph.outputs != (OUTPUT,):
        yield ", ".join(graph.outputs), f"expected the one output {OUTPUT!r}, received {graph.outputs}"
    for value in (*graph.model.graph.input, *graph.model.graph.output):
        kind = value.type.tensor_type.elem_type
        if value.name not in graph.constants and kind != TensorProto.FLOAT:
            yield value.name, f"expected float32, received {TensorProto.DataType.Name(kind)}"


def batch_one(graph: CanonicalGraph) -> Iterator[Finding]:
    """Input and output are (1, C, H, W): the camera gives one frame."""
    for name in (graph.input, *graph.outputs):
        shape = graph.shapes[name]
        if len(shape) != 4 or shape[0] != 1:
            yield name, f"expected shape (1, C, H, W), received {shape}"


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


def activations_per_tensor(graph: CanonicalGraph) -> Iterator[Finding]:
    """One scale per activation tensor: no runtime takes per-channel activations."""
    for name, grid in graph.activations.items():
        if grid.scale.size != 1:
            yield graph.producers[name].name, f"expected one scale for the tensor, received {grid.scale.size}"


def activations_int8(graph: CanonicalGraph) -> Iterator[Finding]:
    """Portable scheme: activations are int8 with zero point 0; TensorRT takes nothing else."""
    if _scheme(graph) is not QuantScheme.PORTABLE:
        return
    for node in _q_nodes(graph):
        kind, zero = _code_type(graph, node), graph.activations[node.output].zero_point
        if kind != "int8" or zero != 0:
            yield node.name, f"expected int8 with zero point 0 (portable scheme), received {kind} with {zero}"


def activations_affine(graph: CanonicalGraph) -> Iterator[Finding]:
    """Affine scheme: activations are uint8 with any zero point; x64 kernels fuse only those."""
    if _scheme(graph) is not QuantScheme.AFFINE:
        return
    for node in _q_nodes(graph):
        if (kind := _code_type(graph, node)) != "uint8":
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


def after_activation(graph: CanonicalGraph) -> Iterator[Finding]:
    """No Q/DQ between a conv or add and its only reader Relu/Clip: Core ML, TFLite and ORT would not fuse them."""
    for node in _q_nodes(graph):
        source = graph.producers.get(node.inputs[0])
        if source is None or source.op not in FUSING_OPS:
            continue
        floats = [d.output for d in graph.consumers.get(node.output, ()) if d.op == "DequantizeLinear"]
        readers = [reader for name in floats for reader in graph.consumers.get(name, ())]
        if len(readers) == 1 and readers[0].op in ("Relu", "Clip"):
            yield (
                node.name,
                (
                    f"expected Q/DQ after {readers[0].op} {readers[0].name!r}, "
                    f"received it between {source.op} {source.name!r} and {readers[0].op}"
                ),
            )


def pairs(graph: CanonicalGraph) -> Iterator[Finding]:
    """Each QuantizeLinear is read by DequantizeLinear only, with the same scale and zero point, and the reverse."""
    for node in graph.nodes:
        if node.op == "QuantizeLinear":
            readers = graph.consumers.get(node.output, ())
            if not readers or any(r.op != "DequantizeLinear" for r in readers):
                received = ", ".join(f"{r.op} {r.name!r}" for r in readers) or "no reader"
                yield node.name, f"expected DequantizeLinear to read it, received {received}"
        elif node.op == "DequantizeLinear" and node.inputs[0] not in graph.constants:
            source = graph.producers.get(node.inputs[0])
            if source is None or source.op != "QuantizeLinear":
                yield (
                    node.name,
                    f"expected QuantizeLinear in front, received {source.op if source else 'a graph input'}",
                )
                continue
            ours = [graph.constants[i].tolist() for i in node.inputs[1:] if i]
            theirs = [graph.constants[i].tolist() for i in source.inputs[1:] if i]
            if ours != theirs:
                yield node.name, f"expected the scale and zero point {theirs} of {source.name!r}, received {ours}"


def shared_scale(graph: CanonicalGraph) -> Iterator[Finding]:
    """Concat, Resize, pooling and moving ops have one scale for inputs and output: they are byte copies on every
    runtime only then (TFLite refuses the file otherwise, TensorRT requantizes)."""
    for node in graph.nodes:
        if node.op not in MOVING_OPS:
            continue
        scales = {i: s for i in _data_inputs(graph, node) if (s := _scale_of_float(graph, i)) is not None}
        scales.update({f"{o} (output)": s for o in node.outputs for s in _scales_after(graph, o)})
        if len(set(scales.values())) > 1:
            received = ", ".join(f"{name} {scale:g}" for name, scale in scales.items())
            yield node.name, f"expected one scale over {node.op}, received {received}"


def add_inputs(graph: CanonicalGraph) -> Iterator[Finding]:
    """Both inputs of a residual Add are quantized: with one float branch the add and its conv run in float."""
    yield from _unquantized(graph, lambda op: op == "Add")


def quantized_inputs(graph: CanonicalGraph) -> Iterator[Finding]:
    """Every op but activations and float islands reads quantized tensors only."""
    exempt = {"Add", "QuantizeLinear", "DequantizeLinear", *ACTIVATIONS, *FLOAT_ISLANDS}
    yield from _unquantized(graph, lambda op: op not in exempt)


def _unquantized(graph: CanonicalGraph, concerns: Callable[[str], bool]) -> Iterator[Finding]:
    islands = _island_tensors(graph)
    for node in graph.nodes:
        if not concerns(node.op):
            continue
        for name in _data_inputs(graph, node):
            inside = name in islands and node.op not in WEIGHT_OPS
            attention = name in islands and node.op == "MatMul" and node.inputs[1] not in graph.weights
            if graph.quantized(name) is None and not inside and not attention:
                yield node.name, f"input {name!r} of {node.op}: expected a dequantized tensor, received a float one"


def resize_modes(graph: CanonicalGraph) -> Iterator[Finding]:
    """Resize is nearest (pixel replication) or half-pixel linear; align_corners differs between runtimes."""
    for node in graph.nodes:
        if node.op != "Resize":
            continue
        mode = str(node.attributes.get("mode", "nearest"))
        where = str(node.attributes.get("coordinate_transformation_mode", "half_pixel"))
        rounding = str(node.attributes.get("nearest_mode", "round_prefer_floor"))
        if where == "align_corners":
            yield node.name, "expected nearest or half_pixel linear, received align_corners; retrain without it"
        elif mode == "linear" and where not in ("half_pixel", "pytorch_half_pixel"):
            yield node.name, f"expected half_pixel linear, received {where} linear"
        elif mode == "nearest" and (where, rounding) not in REPLICATING:
            yield node.name, f"expected nearest that replicates pixels, received {where} with {rounding}"
        elif mode not in ("linear", "nearest"):
            yield node.name, f"expected nearest or half_pixel linear, received mode {mode}"


REPLICATING = frozenset({("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")})


def input_quantizer(graph: CanonicalGraph) -> Iterator[Finding]:
    """The input is read by one quantizer with scale 1/64, code = pixel - 128 (int8) or pixel (uint8)."""
    for node in graph.consumers.get(graph.input, ()):
        if node.op != "QuantizeLinear":
            yield node.name, f"expected QuantizeLinear to read {graph.input!r}, received {node.op}"
            continue
        grid, zero = graph.activations[node.output], 128 if _code_type(graph, node) == "uint8" else 0
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


def layer_norm_one_op(graph: CanonicalGraph) -> Iterator[Finding]:
    """LayerNormalization is one op: runtimes fuse it, and a decomposed one overflows in FP16."""
    for node in graph.nodes:
        source: Node | None = node if node.op == "Sqrt" else None
        while source is not None and source.op in ("Sqrt", "Add", "QuantizeLinear", "DequantizeLinear"):
            name = next((i for i in source.inputs if i not in graph.constants), "")
            source = graph.producers.get(name)
        if source is not None and source.op == "ReduceMean":
            yield node.name, f"expected LayerNormalization, received it decomposed (ReduceMean {source.name!r}, Sqrt)"


GROUND: Mapping[str, Rule] = registry([("constant-grids", constant_grids), ("static-shapes", static_shapes)])

RULES: Mapping[str, Rule] = registry(
    [
        ("opset", opset),
        ("metadata", metadata_fits),
        ("interface", interface),
        ("batch-1", batch_one),
        ("weights-dequantize-only", weights_dequantize_only),
        ("weights-symmetric", weights_symmetric),
        ("weights-per-channel", weights_per_channel),
        ("bias-float", bias_float),
        ("activations-per-tensor", activations_per_tensor),
        ("activations-int8", activations_int8),
        ("activations-affine", activations_affine),
        ("scales-fp16", scales_fp16),
        ("after-activation", after_activation),
        ("pairs", pairs),
        ("shared-scale", shared_scale),
        ("add-inputs", add_inputs),
        ("quantized-inputs", quantized_inputs),
        ("resize-modes", resize_modes),
        ("input-quantizer", input_quantizer),
        ("logits-quantizer", logits_quantizer),
        ("layer-norm-one-op", layer_norm_one_op),
    ]
)


def check_rules(graph: CanonicalGraph, rules: Mapping[str, Rule]) -> tuple[Violation, ...]:
    """Every breach of `rules`, in the order of the table; only those of GROUND where one of these is broken."""
    for table in (GROUND, rules):
        found = tuple(Violation(name, *finding) for name, rule in table.items() for finding in rule(graph))
        if found:
            return found
    return ()


def check_canonical(graph: CanonicalGraph) -> tuple[Violation, ...]:
    """Every breach of the canonical form; empty where the graph keeps all rules."""
    return check_rules(graph, RULES)


def require_rules(graph: CanonicalGraph, rules: Mapping[str, Rule], *, what: str) -> None:
    """Raise GraphError listing every violation by rule and node; `what` names the file or form in the message."""
    if found := check_rules(graph, rules):
        lines = "\n  ".join(str(violation) for violation in found)
        raise GraphError(f"{what} breaks {len(found)} rule(s); write it again with edge-unet quantize\n  {lines}")


def require_canonical(source: Path | CanonicalGraph) -> CanonicalGraph:
    """The graph, where it keeps every rule. Raises GraphError listing every violation by rule and node,
    ArtifactError or UsageError where the file cannot be read."""
    graph = load_graph(source) if isinstance(source, Path) else source
    require_rules(graph, RULES, what=str(source) if isinstance(source, Path) else "the canonical graph")
    return graph
