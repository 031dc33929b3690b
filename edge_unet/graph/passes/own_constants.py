"""Every quantizer owns its scale and zero point, and every convolution its bias.

The exporter merges equal constants and drops a bias of zeros. A reader that looks a scale up by name, and a target
that must write a bias, should not have to know.
"""

from __future__ import annotations

import ast

import numpy as np
import onnx_ir as ir

SCOPES = "pkg.torch.onnx.name_scopes"


def run(model: ir.Model) -> None:
    """Copy shared quantizer constants per module path, and write zero biases out."""
    graph = model.graph
    for node in graph:
        if node.op_type in ("Conv", "ConvTranspose") and (len(node.inputs) < 3 or node.inputs[2] is None):
            _add_bias(graph, node)
    owners: dict[tuple[str, str], ir.Value] = {}
    taken: dict[str, str] = {}
    for node in graph:
        first = {"QuantizeLinear": 1, "DequantizeLinear": 1, "Conv": 2, "ConvTranspose": 2}.get(node.op_type)
        for place in range(first, len(node.inputs)) if first is not None else ():
            value = node.inputs[place]
            if value is None or not value.is_initializer():
                continue
            path = path_of(node)
            if taken.setdefault(str(value.name), path) == path:
                continue
            key = (str(value.name), path)
            if key not in owners:
                owners[key] = _copy(graph, value, f"{value.name}@{path}")
            node.replace_input_with(place, owners[key])


def path_of(node: ir.Node) -> str:
    """The module path recorded by the exporter: the last scope before the op's own name."""
    scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
    path = scopes[-2] if len(scopes) > 1 else ""
    return str(path or node.op_type.lower())


def _copy(graph: ir.Graph, value: ir.Value, name: str) -> ir.Value:
    tensor = value.const_value
    copied = ir.Value(name=name, type=value.type, shape=value.shape)
    copied.const_value = ir.tensor(tensor.numpy() if tensor is not None else np.zeros(0), name=name)
    graph.initializers[name] = copied
    return copied


def _add_bias(graph: ir.Graph, node: ir.Node) -> None:
    weight = node.inputs[1]
    if weight is None or weight.shape is None:
        return
    group = node.attributes.get("group")
    per_group, axis = int(group.as_int()) if group is not None else 1, 0
    if node.op_type == "ConvTranspose":
        axis = 1
    channels = int(np.asarray(weight.shape.numpy())[axis]) * (per_group if axis else 1)
    name = f"{path_of(node)}.bias"
    bias = ir.Value(name=name, type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([channels]))
    bias.const_value = ir.tensor(np.zeros(channels, np.float32), name=name)
    graph.initializers[name] = bias
    node.resize_inputs(3)
    node.replace_input_with(2, bias)
