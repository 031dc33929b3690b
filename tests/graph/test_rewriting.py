"""The exporter's optimizer gives the same graph where its slow rule is asked less often."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxscript.optimizer import optimize_ir
from onnxscript.rewriter.rules.common import slice_split_rule

from edge_unet.graph.rewriting import slices_at_slices

PAIRS = 3


def halves() -> ir.Model:
    """(1, 8) cut into halves and added, three times over."""
    nodes = []
    constants = {"zero": [0], "four": [4], "end": [8], "axis": [1]}
    last = "x"
    for n in range(PAIRS):
        nodes += [
            helper.make_node("Slice", [last, "zero", "four", "axis"], [f"left{n}"]),
            helper.make_node("Slice", [last, "four", "end", "axis"], [f"right{n}"]),
            helper.make_node("Add", [f"left{n}", f"right{n}"], [f"sum{n}"]),
            helper.make_node("Concat", [f"sum{n}", f"sum{n}"], [f"x{n}"], axis=1),
        ]
        last = f"x{n}"
    graph = helper.make_graph(
        nodes,
        "halves",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 8))],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, (1, 8))],
        [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=True))


def optimized(how: AbstractContextManager[None]) -> onnx.ModelProto:
    model = halves()
    with how:
        optimize_ir(model)
    return ir.to_proto(model)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The op of every node at which the rule is tried."""
    ops: list[str] = []
    match = slice_split_rule.match

    def noted(model: ir.Model, graph: ir.Graph, node: ir.Node, **options: object) -> object:
        ops.append(node.op_type)
        return match(model, graph, node, **options)

    monkeypatch.setattr(slice_split_rule, "match", noted)
    return ops


def test_the_rule_is_asked_at_slices_alone_and_the_graph_is_the_same(asked: list[str]) -> None:
    quick = optimized(slices_at_slices())
    at_slices = list(asked)
    assert set(at_slices) == {"Slice"}
    asked.clear()
    plain = optimized(nullcontext())
    assert set(asked) > {"Slice"}  # as before, once the context is left
    assert at_slices == [op for op in asked if op == "Slice"]
    assert quick.SerializeToString(deterministic=True) == plain.SerializeToString(deterministic=True)
