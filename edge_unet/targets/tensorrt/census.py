"""Layers by precision: predicted from the Q/DQ graph, or as the inspector of a built engine tells."""

from __future__ import annotations

from collections.abc import Iterable

from edge_unet.canonical import CanonicalGraph, Node
from edge_unet.canonical.rules_placement import ACTIVATIONS, FUSING_OPS
from edge_unet.core.artifact import Census, LayerPlacement
from edge_unet.core.errors import ArtifactError
from edge_unet.targets.tensorrt.kit.census import EngineLayer, parse_inspector

NO_LAYERS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "Cast", "Constant", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}
)
PREDICTED = (
    "structural rules on the kit's graph, not an engine: a layer is INT8 where Q/DQ stands on every input and behind it"
)
INSPECTED = "TensorRT engine inspector"


def predicted_census(graph: CanonicalGraph, floats: str) -> Census:
    """What TensorRT must run in INT8 if it follows Q/DQ; `floats` names the precision of every other layer."""
    layers = tuple(
        LayerPlacement(
            name=node.name, op=node.op, precision="int8" if _is_int8(graph, node) else floats, unit="predicted GPU"
        )
        for node in graph.nodes
        if node.op not in NO_LAYERS and not _is_fused(graph, node)
    )
    return Census(layers=layers, source=PREDICTED)


def engine_census(inspector_json: str) -> Census:
    """What the inspector of a built engine says. Raises ArtifactError where it says nothing about precisions."""
    try:
        return census_of_layers(parse_inspector(inspector_json))
    except ValueError as error:
        raise ArtifactError(f"engine inspector: {error}; build the engine again with the kit's build.py") from error


def census_of_layers(layers: Iterable[EngineLayer]) -> Census:
    """A census of layers that the kit's own parser has read."""
    placed = (LayerPlacement(name=v.name, op=v.op, precision=v.precision, unit=v.unit) for v in layers)
    return Census(layers=tuple(placed), source=INSPECTED)


def _is_fused(graph: CanonicalGraph, node: Node) -> bool:
    """An activation behind the op that absorbs it is no layer of its own."""
    source = graph.producers.get(node.inputs[0])
    return node.op in ACTIVATIONS and source is not None and source.op in FUSING_OPS


def _is_int8(graph: CanonicalGraph, node: Node) -> bool:
    """Every data input comes from a DequantizeLinear, and the output, or that of a fused activation, is quantized."""
    data = [name for name in node.inputs if name and name not in graph.constants]
    if not data or any(graph.quantized(name) is None for name in data):
        return False
    readers = graph.consumers.get(node.output, ())
    if len(readers) == 1 and readers[0].op in ACTIVATIONS and node.op in FUSING_OPS:
        readers = graph.consumers.get(readers[0].output, ())
    return bool(readers) and all(reader.op == "QuantizeLinear" for reader in readers)
