"""Rules about where Q/DQ stands and which ops may stay float.

Each rule is a generator that yields (node, message) per breach; its docstring says which runtime needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from edge_unet.canonical.graph import CanonicalGraph, Node
from edge_unet.canonical.rules_grids import WEIGHT_OPS, Finding, data_inputs, q_nodes

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

REPLICATING = frozenset({("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")})
"""(coordinate mode, rounding) pairs of nearest Resize that repeat pixels at every integer factor."""


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


def _island_tensors(graph: CanonicalGraph) -> set[str]:
    """Float tensors inside an island: made by an island op, or by an op without weights that reads such a tensor."""
    inside: set[str] = set()
    for node in graph.nodes:
        carries = node.op not in WEIGHT_OPS and node.op not in ("QuantizeLinear", "DequantizeLinear")
        if graph.island(node) or node.op in FLOAT_ISLANDS or (carries and any(i in inside for i in node.inputs)):
            inside.update(node.outputs)
    return inside


def after_activation(graph: CanonicalGraph) -> Iterator[Finding]:
    """No Q/DQ between a conv or add and its only reader Relu/Clip: Core ML, TFLite and ORT would not fuse them."""
    for node in q_nodes(graph):
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
        if node.op not in MOVING_OPS or graph.island(node):
            continue
        scales = {i: s for i in data_inputs(graph, node) if (s := _scale_of_float(graph, i)) is not None}
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
        if not concerns(node.op) or graph.island(node):
            continue
        for name in data_inputs(graph, node):
            inside = name in islands and node.op not in WEIGHT_OPS
            attention = name in islands and node.op == "MatMul" and node.inputs[1] not in graph.weights
            if graph.quantized(name) is None and not inside and not attention:
                yield node.name, f"input {name!r} of {node.op}: expected a dequantized tensor, received a float one"


def islands_weightless(graph: CanonicalGraph) -> Iterator[Finding]:
    """A declared island holds no convolution and no product with a weight: those are what INT8 is for."""
    for node in graph.nodes:
        if (path := graph.island(node)) is None:
            continue
        constant = node.op == "MatMul" and any(i in graph.constants or i in graph.weights for i in node.inputs)
        if node.op in ("Conv", "ConvTranspose", "Gemm") or constant:
            yield node.name, f"expected no weights inside the float island {path!r}, received {node.op}"


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


def layer_norm_one_op(graph: CanonicalGraph) -> Iterator[Finding]:
    """LayerNormalization is one op: runtimes fuse it, and a decomposed one overflows in FP16."""
    for node in graph.nodes:
        source: Node | None = node if node.op == "Sqrt" else None
        while source is not None and source.op in ("Sqrt", "Add", "QuantizeLinear", "DequantizeLinear"):
            name = next((i for i in source.inputs if i not in graph.constants), "")
            source = graph.producers.get(name)
        if source is not None and source.op == "ReduceMean":
            yield node.name, f"expected LayerNormalization, received it decomposed (ReduceMean {source.name!r}, Sqrt)"
