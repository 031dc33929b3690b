"""The canonical ONNX: reading it, its rules, its metadata, its float twin. onnx and numpy only."""

from edge_unet.canonical.graph import CanonicalGraph, Node, QuantizedWeight, load_graph, load_model, view_graph
from edge_unet.canonical.metadata import METADATA_KEY, Metadata, parse_metadata, write_metadata
from edge_unet.canonical.strip import strip_qdq

__all__ = [
    "METADATA_KEY",
    "CanonicalGraph",
    "Metadata",
    "Node",
    "QuantizedWeight",
    "load_graph",
    "load_model",
    "parse_metadata",
    "strip_qdq",
    "view_graph",
    "write_metadata",
]
