"""Show the insides of a Q/DQ graph: every quantized tensor an output, and chosen ones fed from outside."""

from __future__ import annotations

from collections.abc import Collection

import onnx
from onnx import TensorProto, helper

from edge_unet.canonical import CanonicalGraph

FORCED = "forced:"
"""Prefix of the extra graph inputs that stand in for a quantized tensor."""


def expose(graph: CanonicalGraph, names: Collection[str], forced: Collection[str], dtype: int) -> onnx.ModelProto:
    """A copy of the graph whose outputs are the integer tensors `names` (element type `dtype`, an onnx.TensorProto
    enum); each tensor in `forced` is still computed, but its readers take the graph input FORCED + name instead."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    swap = {name: FORCED + name for name in forced}
    for node in model.graph.node:
        node.input[:] = [swap.get(name, name) for name in node.input]
    for name in forced:
        model.graph.input.append(helper.make_tensor_value_info(swap[name], dtype, graph.shapes[name]))
    known = {output.name for output in model.graph.output}
    for name in names:
        if name not in known:
            model.graph.output.append(helper.make_tensor_value_info(name, dtype, graph.shapes[name]))
    return model


INT8 = int(TensorProto.INT8)
UINT8 = int(TensorProto.UINT8)
