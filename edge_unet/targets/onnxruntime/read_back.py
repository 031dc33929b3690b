"""Scales and integers as they stand in a saved `onnx` artifact, under canonical names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edge_unet.canonical import CanonicalGraph, Node, load_graph
from edge_unet.core.artifact import Artifact, Grid, ReadBack
from edge_unet.core.errors import ArtifactError
from edge_unet.core.spec import Precision
from edge_unet.targets.grids import same_grid
from edge_unet.targets.onnxruntime.ops import INTERNAL


def read_back(folder: Path, artifact: Artifact) -> ReadBack:
    """Parse the file again and follow each scale from its Q or DQ node through the ops on integers.

    Activations are u8 with zero point 128, as the artifact holds them. An FP32 artifact holds neither scales nor
    integers: both tables are empty. Raises ArtifactError where two scales meet in one integer tensor.
    """
    if artifact.precision is not Precision.INT8:
        return ReadBack(activations={}, weights={}, absent={})
    graph = load_graph(folder / artifact.path)
    grids = _grids(graph)
    activations = {n: g for n, g in grids.items() if n != graph.input and not n.startswith(INTERNAL)}
    weights = {weight.name: (weight.values, weight.grid) for weight in graph.weights.values()}
    return ReadBack(activations=activations, weights=weights, absent={})


def _grids(graph: CanonicalGraph) -> dict[str, Grid]:
    """Every integer activation -> its grid."""
    readers = [n for n in graph.nodes if n.op == "DequantizeLinear" and n.inputs[0] not in graph.constants]
    read = {node.inputs[0]: _grid(graph, node) for node in readers}
    grids: dict[str, Grid] = {}
    for node in graph.nodes:
        if node.op == "QuantizeLinear":
            found = [graph.activations[node.output]]
        elif node.op == "DequantizeLinear":
            found = []
        else:  # an op on integers keeps the grid; the raw frame has none until a DequantizeLinear reads it
            found = [grids[name] for name in node.inputs if name in grids]
        found += [read[name] for name in node.outputs if name in read]
        if any(not same_grid(found[0], other) for other in found[1:]):
            raise ArtifactError(f"node {node.name!r} ({node.op}): integers with two scales; lower it again")
        if found:
            grids.update(dict.fromkeys(node.outputs, found[0]))
    return grids


def _grid(graph: CanonicalGraph, node: Node) -> Grid:
    """The grid of a DequantizeLinear."""
    scale, zero_point = (graph.constant(name, node) for name in node.inputs[1:3])
    return Grid(np.asarray(scale, np.float32), int(zero_point))
