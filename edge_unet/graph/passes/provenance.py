"""What the exporter wrote about itself goes: it names source lines of this machine and would change the bytes."""

from __future__ import annotations

import onnx_ir as ir

from edge_unet import __version__

IR_VERSION = 10
"""The version that opset 21 came with; newer ones are refused by older runtimes."""


def run(model: ir.Model, name: str) -> None:
    """Drop the exporter's annotations and sign as edge_unet."""
    graph = model.graph
    model.metadata_props.clear()
    graph.metadata_props.clear()
    model.producer_name, model.producer_version = "edge_unet", __version__
    model.ir_version, model.doc_string, model.domain, model.model_version = IR_VERSION, None, None, None
    graph.name, graph.doc_string = name, None
    for node in graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            _clear(value)
    for value in (*graph.inputs, *graph.initializers.values()):
        _clear(value)


def _clear(value: ir.Value) -> None:
    value.metadata_props.clear()
    value.doc_string = None
