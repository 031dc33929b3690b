"""Names a reader can follow: every tensor is called after the module that makes it.

`stem.2` is the result of module stem.2, `stem.2.q` its int8 codes, `stem.2.dq` those dequantized. A weight is
`stem.0.weight` (int8) with `.scale`, `.zp` and the dequantized `.dq`; a quantizer shared by several tensors keeps one
pair `quant.<first tensor>.scale`, `.zero_point`. Other constants are `const.<n>` in order of use.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from edge_unet.graph.passes.own_constants import path_of


def run(model: ir.Model, outputs: tuple[str, ...]) -> None:
    """Rename nodes, tensors and constants; the graph's results become `outputs`."""
    graph = model.graph
    results = {id(value): name for value, name in zip(graph.outputs, outputs, strict=True)}
    names = _Names(outputs)
    wanted: list[tuple[ir.Value, str]] = []
    chosen: dict[int, str] = {id(v): str(v.name) for v in graph.inputs}
    names.taken.update(chosen.values())
    for node in graph:
        stem = names.free(_stem(node, chosen))
        for place, value in enumerate(node.outputs):
            name = results.get(id(value), stem if place == 0 else f"{stem}.{place}")
            chosen[id(value)] = stem if place == 0 else name
            wanted.append((value, name))
        node.name = stem
    # Two rounds, because a new name may still be another value's old one.
    _rename_constants(graph, names, chosen)
    for number, (value, _) in enumerate(wanted):
        value.name = f"\0{number}"
    for value, name in wanted:
        value.name = name


class _Names:
    """Names already in use."""

    def __init__(self, taken: Iterable[str]) -> None:
        self.taken = set(taken)

    def free(self, stem: str) -> str:
        """`stem`, or `stem`_1, _2, … where it is taken."""
        name, count = stem, 0
        while name in self.taken:
            count += 1
            name = f"{stem}_{count}"
        self.taken.add(name)
        return name


def _stem(node: ir.Node, chosen: dict[int, str]) -> str:
    source = node.inputs[0]
    if source is not None and node.op_type == "QuantizeLinear":
        return f"{chosen[id(source)]}.q"
    if source is not None and node.op_type == "DequantizeLinear":
        if source.is_initializer():
            return f"{path_of(node)}.weight.dq"
        return f"{chosen[id(source)].removesuffix('.q')}.dq"
    path = path_of(node)
    readers = [use.node for value in node.outputs for use in value.uses()]
    inner = bool(readers) and all(path_of(r) == path and r.op_type != node.op_type for r in readers)
    return f"{path}.{node.op_type}" if inner else path


def _rename_constants(graph: ir.Graph, names: _Names, chosen: dict[int, str]) -> None:
    order: dict[int, ir.Value] = {}
    for node in graph:
        for value in node.inputs:
            if value is not None and value.is_initializer():
                order.setdefault(id(value), value)
    renamed: list[tuple[ir.Value, str]] = []
    for value in order.values():
        use = next(iter(value.uses()))
        renamed.append((value, names.free(_constant_name(value, use.node, use.idx, chosen))))
    graph.initializers.clear()
    for value, name in renamed:
        value.name = name
        if value.const_value is not None:
            value.const_value.name = name
        graph.initializers[name] = value


def _constant_name(value: ir.Value, node: ir.Node, place: int, chosen: dict[int, str]) -> str:
    if node.op_type == "DequantizeLinear" and node.inputs[0] is not None and node.inputs[0].is_initializer():
        return f"{path_of(node)}.weight" + ("", ".scale", ".zp")[place]
    if node.op_type in ("Conv", "ConvTranspose"):
        return f"{path_of(node)}." + ("", "weight", "bias")[place]
    if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
        return f"{path_of(node)}." + ("", "scale", "zero_point")[place]
    tensor = value.const_value
    if tensor is not None and tensor.size == 1:
        return f"const.{tensor.numpy().reshape(-1)[0].item():g}"
    return "const"
