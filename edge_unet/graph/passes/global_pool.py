"""ReduceMean over H and W becomes GlobalAveragePool: the op that every target has an integer kernel for."""

from __future__ import annotations

import onnx_ir as ir


def run(model: ir.Model) -> None:
    """Rewrite each ReduceMean over the last two of four axes with kept dimensions."""
    for node in model.graph:
        if node.op_type == "ReduceMean" and _spatial(node):
            pooled = ir.Node("", "GlobalAveragePool", [node.inputs[0]], num_outputs=1, name=node.name)
            pooled.metadata_props.update(node.metadata_props)
            pooled.outputs[0].shape, pooled.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
            model.graph.insert_after(node, pooled)
            node.outputs[0].replace_all_uses_with(pooled.outputs[0], replace_graph_outputs=True)
            model.graph.remove(node, safe=True)


def _spatial(node: ir.Node) -> bool:
    axes = node.inputs[1].const_value if len(node.inputs) > 1 and node.inputs[1] is not None else None
    keep = node.attributes.get("keepdims")
    if axes is None or (keep is not None and keep.as_int() != 1):
        return False
    return sorted(int(a) % 4 for a in axes.numpy()) == [2, 3]
