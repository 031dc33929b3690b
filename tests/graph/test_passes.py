from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_unet.graph.passes import constant_rates, global_pool, identities, naming, own_constants, provenance


def model_of(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[np.generic]]) -> ir.Model:
    """A graph from x (1, 2, 4, 4) to y; a node's name becomes the module path that the exporter would record."""
    for number, node in enumerate(nodes):
        node.metadata_props.add(key=own_constants.SCOPES, value=repr(["", node.name, "op"]))
        node.name = f"node_{number}"
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def result(model: ir.Model) -> NDArray[np.float32]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.linspace(-3, 3, 32, dtype=np.float32).reshape(1, 2, 4, 4)
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def two_quantizers() -> ir.Model:
    """Two quantizers that share one scale, and a convolution without bias."""
    q = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["a"], "quant.a"),
        helper.make_node("DequantizeLinear", ["a", "s", "z"], ["b"], "quant.a"),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "conv", axis=0),
        helper.make_node("Conv", ["b", "wd"], ["c"], "conv"),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["d"], "quant.b"),
        helper.make_node("DequantizeLinear", ["d", "s", "z"], ["y"], "quant.b"),
    ]
    weight = np.arange(-3, 3, dtype=np.int8).reshape(3, 2, 1, 1)
    constants: dict[str, NDArray[np.generic]] = {
        "s": np.float32(0.5), "z": np.int8(0), "w": weight,
        "ws": np.full(3, 0.25, np.float32), "wz": np.zeros(3, np.int8),
    }  # type: ignore[dict-item]  # fmt: skip
    return model_of(q, constants)


def test_every_quantizer_and_convolution_gets_constants_of_its_own() -> None:
    model = two_quantizers()
    before = result(model)
    own_constants.run(model)
    conv = next(n for n in model.graph if n.op_type == "Conv")
    assert conv.inputs[2] is not None
    assert conv.inputs[2].const_value is not None
    assert conv.inputs[2].const_value.numpy().tolist() == [0, 0, 0]
    scales = [n.inputs[1] for n in model.graph if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert scales[0] is scales[1]
    assert scales[3] is scales[4]
    assert scales[0] is not scales[3]
    assert np.array_equal(result(model), before)


def test_names_follow_the_module_paths() -> None:
    model = two_quantizers()
    before = result(model)
    own_constants.run(model)
    naming.run(model, ("logits",))
    outputs = [node.outputs[0].name for node in model.graph]
    assert outputs == ["x.q", "x.dq", "conv.weight.dq", "conv", "conv.q", "logits"]
    assert set(model.graph.initializers) == {
        "quant.a.scale", "quant.a.zero_point", "quant.b.scale", "quant.b.zero_point",
        "conv.weight", "conv.weight.scale", "conv.weight.zp", "conv.bias",
    }  # fmt: skip
    assert np.array_equal(result(model), before)


def test_repeated_modules_are_numbered() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "act"),
        helper.make_node("Neg", ["r"], ["n"], "neg"),
        helper.make_node("Relu", ["n"], ["y"], "act"),
    ]
    model = model_of(nodes, {})
    naming.run(model, ("logits",))
    assert [(n.name, n.outputs[0].name) for n in model.graph] == [("act", "act"), ("neg", "neg"), ("act_1", "logits")]


@pytest.mark.parametrize(
    ("axes", "expected"), [([2, 3], "GlobalAveragePool"), ([-1, -2], "GlobalAveragePool"), ([1], "ReduceMean")]
)
def test_only_a_mean_over_height_and_width_becomes_a_pool(axes: list[int], expected: str) -> None:
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["y"], "squeeze", keepdims=1)]
    model = model_of(nodes, {"axes": np.array(axes, np.int64)})
    before = result(model)
    global_pool.run(model)
    assert [n.op_type for n in model.graph] == [expected]
    np.testing.assert_allclose(result(model), before, atol=1e-6)


def test_identities_dead_nodes_and_equal_constants_go() -> None:
    nodes = [
        helper.make_node("Identity", ["x"], ["i"], "identity"),
        helper.make_node("Clip", ["i", "low", "high"], ["a"], "first"),
        helper.make_node("Clip", ["a", "low2", "high"], ["y"], "second"),
        helper.make_node("Neg", ["a"], ["dead"], "dead"),
    ]
    model = model_of(nodes, {k: np.float32(v) for k, v in (("low", 0), ("low2", 0), ("high", 1))})  # type: ignore[misc]
    before = result(model)
    identities.run(model)
    assert [n.op_type for n in model.graph] == ["Clip", "Clip"]
    assert len(model.graph.initializers) == 2
    naming.run(model, ("logits",))
    assert list(model.graph.initializers) == ["const.0", "const.1"]
    assert np.array_equal(result(model), before)


def test_the_exporters_notes_go(tmp_path: Path) -> None:
    model = two_quantizers()
    model.graph[0].doc_string = f"made in {tmp_path}"
    provenance.run(model, "net")
    proto = ir.to_proto(model)
    assert (proto.producer_name, proto.graph.name, proto.ir_version) == ("edge_unet", "net", 10)
    assert str(tmp_path).encode() not in proto.SerializeToString()
    assert not any(node.metadata_props for node in proto.graph.node)


def test_rates_of_constants_become_constants() -> None:
    rates = np.linspace(-2, 2, 2 * 4 * 4, dtype=np.float32).reshape(1, 2, 4, 4)
    nodes = [
        helper.make_node("Exp", ["r"], ["e"], "scan"),
        helper.make_node("Neg", ["e"], ["n"], "scan"),
        helper.make_node("Exp", ["x"], ["d"], "scan"),
        helper.make_node("Mul", ["d", "n"], ["y"], "scan"),
    ]
    model = model_of(nodes, {"r": rates})
    expected = result(model)
    constant_rates.run(model)
    identities.run(model)
    assert [n.op_type for n in model.graph] == ["Exp", "Mul"]
    np.testing.assert_allclose(result(model), expected, rtol=1e-6)
