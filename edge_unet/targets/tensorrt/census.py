"""Layers by precision: predicted from the Q/DQ graph, or as the inspector of a built engine tells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from edge_unet.canonical import CanonicalGraph, Node
from edge_unet.canonical.rules_placement import ACTIVATIONS, FUSING_OPS
from edge_unet.core.artifact import Census, LayerPlacement
from edge_unet.core.errors import ArtifactError
from edge_unet.targets.islands import Islands
from edge_unet.targets.tensorrt.graphs import wide_islands
from edge_unet.targets.tensorrt.kit.census import EngineLayer, parse_inspector

NO_LAYERS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Cast", "Constant", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
)
REDUCTIONS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMean", "ReduceSum"})
"""Ops that the parser imports as Reduce layers, which take no INT8."""
PREDICTED = (
    "structural rules on the kit's graph, not an engine: a layer is INT8 where Q/DQ stands on every input and behind it"
)
INSPECTED = "TensorRT engine inspector"
_WORDS = re.compile(r"[\w./-]+")


def predicted_census(graph: CanonicalGraph, floats: str) -> Census:
    """What TensorRT must run in INT8 if it follows Q/DQ; `floats` names the precision of every other layer, but in a
    float island that FP16 does not hold. A layer of an island says so, with the reason, in its unit."""
    islands, wide = Islands(graph.islands), wide_islands(graph)

    def precision(node: Node) -> str:
        if _is_int8(graph, node):
            return "int8"
        return "fp32" if graph.island(node) in wide else floats

    layers = tuple(
        LayerPlacement(
            name=node.name,
            op=node.op,
            precision=precision(node),
            unit=f"predicted GPU{islands.note([node.name])}",
        )
        for node in graph.nodes
        if node.op not in NO_LAYERS and not _is_fused(graph, node)
    )
    return Census(layers=layers, source=PREDICTED)


def engine_census(inspector_json: str, reasons: Mapping[str, str]) -> Census:
    """What the inspector of a built engine says; `reasons` are those of the graph's float islands. Raises
    ArtifactError where it says nothing about precisions."""
    try:
        return census_of_layers(parse_inspector(inspector_json), reasons)
    except ValueError as error:
        raise ArtifactError(f"engine inspector: {error}; build the engine again with the kit's build.py") from error


def census_of_layers(layers: Iterable[EngineLayer], reasons: Mapping[str, str]) -> Census:
    """A census of layers that the kit's own parser has read. An engine's layer is named after the nodes in it."""
    islands = Islands(reasons)
    placed = (
        LayerPlacement(name=v.name, op=v.op, precision=v.precision, unit=v.unit + islands.note(_WORDS.findall(v.name)))
        for v in layers
    )
    return Census(layers=tuple(placed), source=INSPECTED)


def _is_fused(graph: CanonicalGraph, node: Node) -> bool:
    """An activation behind the op that absorbs it is no layer of its own, but in a float island."""
    if graph.island(node) is not None:
        return False
    source = graph.producers.get(node.inputs[0])
    return node.op in ACTIVATIONS and source is not None and source.op in FUSING_OPS


def _is_int8(graph: CanonicalGraph, node: Node) -> bool:
    """Every data input comes from a DequantizeLinear, and the output, or that of a fused activation, is quantized."""
    if graph.island(node) is not None or node.op in REDUCTIONS:
        return False
    data = [name for name in node.inputs if name and name not in graph.constants]
    if not data or any(graph.quantized(name) is None for name in data):
        return False
    readers = [reader for name in node.outputs for reader in graph.consumers.get(name, ())]
    if len(readers) == 1 and readers[0].op in ACTIVATIONS and node.op in FUSING_OPS:
        readers = list(graph.consumers.get(readers[0].output, ()))
    return bool(readers) and all(reader.op == "QuantizeLinear" for reader in readers)
