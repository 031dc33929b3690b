"""The canonical graph without its Q/DQ: the float twin that FP32, bf16 and FP16 artifacts are lowered from.

Weights are the dequantized integers, so the twin has the network's topology, sizes and (to rounding) its masks, and
a latency comparison between precisions compares the same graph.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from edge_unet.canonical.graph import CanonicalGraph


def strip_qdq(graph: CanonicalGraph) -> onnx.ModelProto:
    """A float32 copy of the model: every QuantizeLinear/DequantizeLinear removed, weights dequantized."""
    alias: dict[str, str] = {}
    floats: dict[str, onnx.TensorProto] = {}
    for name, weight in graph.weights.items():
        shape = [1] * weight.values.ndim
        if weight.grid.scale.size > 1:
            shape[weight.axis] = -1
        scale = weight.grid.scale.reshape(shape) if weight.grid.scale.size > 1 else weight.grid.scale
        real = (weight.values.astype(np.float32) - np.float32(weight.grid.zero_point)) * scale
        floats[name] = numpy_helper.from_array(real.astype(np.float32), weight.name)
        alias[name] = weight.name
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    del model.graph.node[:], model.graph.value_info[:]
    for node in graph.model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            if node.output[0] not in alias:
                alias[node.output[0]] = alias.get(node.input[0], node.input[0])
            continue
        kept = model.graph.node.add()
        kept.CopyFrom(node)
        kept.input[:] = [alias.get(name, name) for name in node.input]
    _rename_outputs(model, alias)
    used = {name for node in model.graph.node for name in node.input}
    initializers = [floats.get(i.name, i) for i in graph.model.graph.initializer]
    replaced = {tensor.name: tensor for tensor in floats.values()}
    del model.graph.initializer[:]
    model.graph.initializer.extend(replaced.get(i.name, i) for i in initializers if i.name in used)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True)


def _rename_outputs(model: onnx.ModelProto, alias: dict[str, str]) -> None:
    """Give each graph output its own name back where the node that made it was a removed DequantizeLinear."""
    for output in model.graph.output:
        source = alias.get(output.name)
        if source is None:
            continue
        for node in model.graph.node:
            node.output[:] = [output.name if name == source else name for name in node.output]
            node.input[:] = [output.name if name == source else name for name in node.input]
