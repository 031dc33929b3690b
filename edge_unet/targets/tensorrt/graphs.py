"""The two graphs of a kit: Q/DQ with float logits, and the strongly typed FP16 twin.

A float island that FP16 does not hold, such as a selective scan, stays float32 in both: in the twin by a Cast on each
tensor that enters and leaves it, in the Q/DQ graph because it is then built strongly typed as well. LayerNormalization
needs none of this: its stash type is float32, and TensorRT computes in that.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_unet.canonical import CanonicalGraph, strip_qdq, view_graph
from edge_unet.core.errors import GraphError
from edge_unet.targets.tensorrt.rules import OPSET

ZERO_POINT = "edge_unet.zero_point"
HALF_MAX = float(np.finfo(np.float16).max)
WIDE_OPS = frozenset({"CumSum", "Exp", "Log", "Softplus"})
"""Ops whose islands are computed in float32: decays and steps span more decades than FP16, and their products and
sums over a whole sequence lose what is left."""


def wide_islands(graph: CanonicalGraph) -> frozenset[str]:
    """The paths of the declared islands that hold one of WIDE_OPS."""
    paths = (graph.island(node) for node in graph.nodes if node.op in WIDE_OPS)
    return frozenset(path for path in paths if path is not None)


def int8_graph(graph: CanonicalGraph) -> tuple[onnx.ModelProto, str]:
    """(the canonical graph without the Q/DQ pair before its output, canonical name of the dropped tensor).

    Raises GraphError where the output does not come from such a pair.
    """
    output = graph.outputs[0]
    last = graph.producers[output]
    before = graph.producers.get(last.inputs[0]) if last.op == "DequantizeLinear" else None
    if before is None or before.op != "QuantizeLinear" or len(graph.consumers[before.output]) != 1:
        raise GraphError(
            f"node {last.name!r} ({last.op}): expected a Q/DQ pair of its own before {output!r}; export it again"
        )
    source = before.inputs[0]
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    kept = [n for n in model.graph.node if not {before.output, output}.intersection(n.output)]
    del model.graph.node[:], model.graph.value_info[:]
    for node in kept:
        node.input[:] = [output if name == source else name for name in node.input]
        node.output[:] = [output if name == source else name for name in node.output]
        model.graph.node.append(node)
    _spell_out_int8(model)
    return _finish(model), before.output


def _spell_out_int8(model: onnx.ModelProto) -> None:
    """Say int8 by an int8 zero point: the attributes output_dtype and block_size are younger than OPSET."""
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        kept = [a for a in node.attribute if a.name not in ("output_dtype", "block_size")]
        del node.attribute[:]
        node.attribute.extend(kept)
        if node.op_type == "QuantizeLinear" and len(node.input) < 3:
            node.input.append(ZERO_POINT)
    if any(ZERO_POINT in node.input for node in model.graph.node):
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.int8), ZERO_POINT))


def fp16_graph(graph: CanonicalGraph) -> onnx.ModelProto:
    """The float twin with FP16 weights and tensors between a Cast at the float32 input and one at the float32 output:
    both majors of TensorRT then build it strongly typed, and the runner need not care. Wide islands stay float32.

    Raises GraphError for a constant beyond the range of FP16.
    """
    model = strip_qdq(graph)
    del model.graph.value_info[:]
    paths = wide_islands(graph)
    wide = {node.name for node in graph.nodes if graph.island(node) in paths} if paths else set()
    _own_wide_constants(model, wide)
    kept = {name for node in model.graph.node if node.op_type == "Resize" for name in node.input[1:]}
    kept |= {name for node in model.graph.node if node.name in wide for name in node.input}
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(_half(tensor))
    for node in model.graph.node:
        if node.op_type == "Cast" and node.name not in wide:
            _retarget(node)
        if node.op_type == "Constant" and node.output[0] not in kept:
            for attribute in node.attribute:
                if attribute.t.data_type == TensorProto.FLOAT:
                    attribute.t.CopyFrom(_half(attribute.t))
    _cast_around(model, wide)
    _cast_at_the_ends(model, graph.input, graph.outputs[0])
    return _finish(model)


def _own_wide_constants(model: onnx.ModelProto, wide: Collection[str]) -> None:
    """Give the wide nodes float constants of their own where other nodes read the same ones."""
    floats = {i.name: i for i in model.graph.initializer if i.data_type == TensorProto.FLOAT}
    others = {name for node in model.graph.node if node.name not in wide for name in node.input}
    shared = {n for node in model.graph.node if node.name in wide for n in node.input if n in floats and n in others}
    for node in model.graph.node:
        if node.name in wide:
            node.input[:] = [f"{name}.fp32" if name in shared else name for name in node.input]
    for name in sorted(shared):
        copy = model.graph.initializer.add()
        copy.CopyFrom(floats[name])
        copy.name = f"{name}.fp32"


def _cast_around(model: onnx.ModelProto, wide: Collection[str]) -> None:
    """A Cast to float32 on each tensor that wide nodes read from outside, one to float16 on each that others read
    from them."""
    makers = {
        name: node.name in wide for node in model.graph.node if node.op_type != "Constant" for name in node.output
    }
    made: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        inside = node.name in wide
        word, kind = ("fp32", TensorProto.FLOAT) if inside else ("fp16", TensorProto.FLOAT16)
        for place, name in enumerate(node.input):
            if makers.get(name, inside) == inside:
                continue
            node.input[place] = f"{name}.{word}"
            if node.input[place] not in made:
                made.add(node.input[place])
                nodes.append(helper.make_node("Cast", [name], [node.input[place]], node.input[place], to=kind))
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _cast_at_the_ends(model: onnx.ModelProto, source: str, output: str) -> None:
    half_in, half_out = f"{source}.fp16", f"{output}.fp16"
    for node in model.graph.node:
        node.input[:] = [half_in if name == source else name for name in node.input]
        node.output[:] = [half_out if name == output else name for name in node.output]
    model.graph.node.insert(0, helper.make_node("Cast", [source], [half_in], half_in, to=TensorProto.FLOAT16))
    model.graph.node.append(helper.make_node("Cast", [half_out], [output], half_out, to=TensorProto.FLOAT))


def _retarget(node: onnx.NodeProto) -> None:
    """A Cast to float32 inside the network now casts to float16."""
    for attribute in node.attribute:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16


def _half(tensor: onnx.TensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(tensor)
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max()) if finite.size else 0.0
    if largest > HALF_MAX:
        raise GraphError(
            f"constant {tensor.name!r}: expected values within FP16's ±{HALF_MAX:g}, received {largest:g}; "
            "retrain with smaller weights"
        )
    return numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _finish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Declare the parser's opset, infer types again and check."""
    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = OPSET
    checked = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(checked, full_check=True)
    return checked


def activation_bytes(model: onnx.ModelProto) -> int:
    """float32 bytes of all tensors that ops make: what the builder may hold at most while it times layers."""
    graph = view_graph(model)
    made = [n.outputs for n in graph.nodes if n.op not in ("QuantizeLinear", "DequantizeLinear")]
    return sum(int(np.prod(graph.shapes[name])) * 4 for names in made for name in names)
