"""Read scales and payloads back out of a kit's Q/DQ graph."""

from __future__ import annotations

import json
from pathlib import Path

from edge_unet.canonical import load_graph
from edge_unet.core.artifact import Artifact, ReadBack
from edge_unet.core.errors import ArtifactError
from edge_unet.core.spec import Precision
from edge_unet.targets.tensorrt.lower import GRAPH

REASON = "dropped: TensorRT leaves the last logits float, their input carries the same scale"


def read_back(folder: Path, artifact: Artifact) -> ReadBack:
    """Everything as it stands in the kit's model.onnx; an FP16 kit holds no integers and both tables are empty.

    Raises ArtifactError where the kit is damaged.
    """
    if artifact.precision is not Precision.INT8:
        return ReadBack(activations={}, weights={}, absent={})
    kit = folder / artifact.path
    try:
        dropped = [str(name) for name in json.loads((kit / "dropped.json").read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise ArtifactError(f"{kit / 'dropped.json'}: missing or damaged ({error}); export the kit again") from error
    graph = load_graph(kit / GRAPH)
    weights = {weight.name: (weight.values, weight.grid) for weight in graph.weights.values()}
    return ReadBack(activations=dict(graph.activations), weights=weights, absent=dict.fromkeys(dropped, REASON))
