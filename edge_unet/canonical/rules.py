"""The rules of the canonical graph: what must hold so that one set of integers serves every target.

Each rule is one small generator that yields (node, message) per breach; `RULES` names them. A rule exists because
some runtime fails, falls back to float or changes a number without it. Rules of `GROUND` must hold before the
others can be evaluated at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from onnx import TensorProto

from edge_unet.canonical import rules_grids as grids
from edge_unet.canonical import rules_placement as placement
from edge_unet.canonical.graph import CanonicalGraph, load_graph
from edge_unet.canonical.rules_grids import INPUT_SCALE, Finding
from edge_unet.core.errors import ArtifactError, GraphError
from edge_unet.core.registry import registry

OPSET = 21
INPUT, OUTPUT = "image", "logits"

Rule = Callable[[CanonicalGraph], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Violation:
    """One breach of one rule. `node` is the node's (or tensor's) name, '' for the whole file."""

    rule: str
    node: str
    message: str

    def __str__(self) -> str:
        return f"[{self.rule}] {self.node or 'graph'}: {self.message}"


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


GROUND: Mapping[str, Rule] = registry([("constant-grids", grids.constant_grids), ("static-shapes", static_shapes)])

RULES: Mapping[str, Rule] = registry(
    [
        ("opset", opset),
        ("metadata", metadata_fits),
        ("interface", interface),
        ("batch-1", batch_one),
        ("weights-dequantize-only", grids.weights_dequantize_only),
        ("weights-symmetric", grids.weights_symmetric),
        ("weights-per-channel", grids.weights_per_channel),
        ("bias-float", grids.bias_float),
        ("bias-on-grid", grids.bias_on_grid),
        ("activations-per-tensor", grids.activations_per_tensor),
        ("activations-int8", grids.activations_int8),
        ("activations-affine", grids.activations_affine),
        ("scales-fp16", grids.scales_fp16),
        ("after-activation", placement.after_activation),
        ("pairs", placement.pairs),
        ("shared-scale", placement.shared_scale),
        ("add-inputs", placement.add_inputs),
        ("quantized-inputs", placement.quantized_inputs),
        ("islands-weightless", placement.islands_weightless),
        ("resize-modes", placement.resize_modes),
        ("input-quantizer", grids.input_quantizer),
        ("logits-quantizer", grids.logits_quantizer),
        ("layer-norm-one-op", placement.layer_norm_one_op),
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
