"""Each op of the table on its own, in float, against onnx's reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.reference
import openvino as ov
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_unet.canonical import view_graph
from edge_unet.core.errors import GraphError
from edge_unet.targets.openvino.ir import IrGraph
from edge_unet.targets.openvino.ops import OPS, lower_node

RNG = np.random.default_rng(0)
Constants = dict[str, NDArray[Any]]


def floats(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 1, shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


# op, constant inputs after x (None = left out), attributes, shape of x
CASES: list[tuple[str, list[NDArray[Any] | None], dict[str, Any], tuple[int, ...]]] = [
    ("Conv", [floats(6, 4, 3, 3), floats(6)], {"pads": [0, 1, 1, 0], "strides": [2, 1]}, (1, 4, 9, 8)),
    ("Conv", [floats(8, 2, 3, 3)], {"group": 2, "dilations": [2, 2]}, (1, 4, 9, 8)),
    ("ConvTranspose", [floats(4, 3, 2, 2), floats(3)], {"strides": [2, 2]}, (1, 4, 5, 6)),
    ("ConvTranspose", [floats(4, 3, 4, 4)], {"strides": [2, 2], "pads": [1, 1, 1, 1]}, (1, 4, 5, 6)),
    ("Clip", [np.float32(-0.5), np.float32(0.25)], {}, (1, 2, 3, 4)),
    ("Clip", [None, np.float32(0.25)], {}, (1, 2, 3, 4)),
    ("Relu", [], {}, (1, 2, 3, 4)),
    ("Concat", [floats(1, 3, 4, 4)], {"axis": 1}, (1, 2, 4, 4)),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, (1, 2, 8, 8)),
    ("AveragePool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}, (1, 2, 8, 6)),
    ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, (1, 2, 5, 6)),
    ("GlobalAveragePool", [], {}, (1, 3, 5, 6)),
    ("ReduceMean", [ints(2)], {"keepdims": 0}, (1, 3, 5, 6)),
    ("Pad", [ints(0, 0, 1, 2, 0, 0, 0, 1), np.float32(0.5)], {}, (1, 2, 4, 5)),
    ("Pad", [ints(0, 0, 1, 2, 0, 0, 0, 1)], {"mode": "edge"}, (1, 2, 4, 5)),
    ("Slice", [ints(1), ints(7), ints(2), ints(2)], {}, (1, 2, 8, 4)),
    ("Transpose", [], {"perm": [0, 2, 3, 1]}, (1, 2, 4, 5)),
    ("Reshape", [ints(1, 4, 10)], {}, (1, 2, 4, 5)),
    ("Reshape", [ints(3, 2, 4, 5, 7)], {}, (1, 24, 5, 7)),
    ("Reshape", [ints(3, 2, 2, 5, 14)], {}, (1, 12, 5, 14)),
    ("Reshape", [ints(3, 2, 4, 7, 5)], {}, (1, 24, 5, 7)),
    ("Flatten", [], {}, (1, 2, 4, 5)),
    ("Unsqueeze", [ints(1)], {}, (1, 2, 4)),
    ("Squeeze", [ints(0)], {}, (1, 2, 4)),
    ("Identity", [], {}, (1, 2, 4)),
    ("Sigmoid", [], {}, (1, 2, 4)),
    ("Tanh", [], {}, (1, 2, 4)),
    ("HardSwish", [], {}, (1, 2, 4)),
    ("HardSigmoid", [], {"alpha": 1 / 6, "beta": 0.5}, (1, 2, 4)),
    ("Softmax", [], {"axis": 1}, (1, 5, 4)),
    ("MatMul", [floats(4, 6)], {}, (1, 3, 4)),
    ("LayerNormalization", [floats(4), floats(4)], {"axis": -1}, (1, 3, 4)),
    ("Add", [floats(1, 2, 1, 1)], {}, (1, 2, 4, 5)),
    ("Sub", [floats(1, 2, 1, 1)], {}, (1, 2, 4, 5)),
    ("Mul", [floats(1, 2, 1, 1)], {}, (1, 2, 4, 5)),
    ("Div", [np.float32(3)], {}, (1, 2, 4, 5)),
    ("Gelu", [], {}, (1, 2, 40, 50)),
    ("Gelu", [], {"approximate": "tanh"}, (1, 2, 4, 5)),
    ("Erf", [], {}, (1, 2, 4, 5)),
    ("Exp", [], {}, (1, 2, 4, 5)),
    ("Log", [], {}, (1, 2, 4, 5)),  # of negative numbers NaN on both sides
    ("Sqrt", [], {}, (1, 2, 4, 5)),
    ("Neg", [], {}, (1, 2, 4, 5)),
    ("Softplus", [], {}, (1, 2, 40, 50)),
    ("GlobalMaxPool", [], {}, (1, 3, 5, 6)),
    ("ReduceMax", [ints(1)], {}, (1, 3, 5, 6)),
    ("ReduceMax", [ints(2, 3)], {"keepdims": 0}, (1, 3, 5, 6)),
    ("ReduceSum", [ints(4)], {"keepdims": 0}, (1, 2, 3, 4, 5)),
    ("ReduceSum", [], {"keepdims": 1}, (1, 3, 5, 6)),
    ("Slice", [ints(-1), ints(-(2**63)), ints(2), ints(-1)], {}, (1, 2, 8, 4)),
    ("Slice", [ints(0, 1), ints(2**63 - 1, 3), ints(2, 3), ints(2, 1)], {}, (1, 2, 8, 4)),
    ("Gather", [ints(2, 0)], {"axis": 1}, (1, 3, 5)),
    ("Gather", [np.array(1, np.int64)], {"axis": 2}, (1, 3, 5, 2)),
    ("Expand", [ints(2, 3, 4, 1)], {}, (1, 3, 1, 5)),
    ("LayerNormalization", [floats(4, 5), floats(4, 5)], {"axis": 2, "epsilon": 1e-3}, (1, 3, 4, 5)),
    ("LayerNormalization", [floats(6)], {"axis": -1}, (1, 3, 2, 4, 6)),
]


def one_node(op: str, rest: list[NDArray[Any] | None], attributes: dict[str, Any], shape: tuple[int, ...]) -> Any:
    constants: Constants = {f"c{n}": np.asarray(value) for n, value in enumerate(rest) if value is not None}
    inputs = ["x", *(f"c{n}" if value is not None else "" for n, value in enumerate(rest))]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["y"], "node", **attributes)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def lowered(model: onnx.ModelProto) -> Any:
    graph = view_graph(model)
    ir = IrGraph(graph, frame_input=False)
    for node in graph.nodes:
        lower_node(node, ir)
    return ir.finish()


@pytest.mark.parametrize(("op", "rest", "attributes", "shape"), CASES, ids=[f"{n}-{c[0]}" for n, c in enumerate(CASES)])
def test_one_op(op: str, rest: list[NDArray[Any] | None], attributes: dict[str, Any], shape: tuple[int, ...]) -> None:
    model = one_node(op, rest, attributes, shape)
    x = floats(*shape)
    expected = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0]
    compiled = ov.Core().compile_model(lowered(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    result = compiled(x)[0]
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, atol=2e-5)


@pytest.mark.parametrize(
    ("mode", "place", "channels"),
    [
        ("nearest", "asymmetric", 3),
        ("linear", "half_pixel", 3),
        ("linear", "half_pixel", 12),
        ("linear", "pytorch_half_pixel", 1),
    ],
)
@pytest.mark.parametrize("factors", [(2, 2), (4, 4), (8, 32), (3, 1)])
def test_resize(mode: str, place: str, channels: int, factors: tuple[int, int]) -> None:
    attributes = {"mode": mode, "coordinate_transformation_mode": place, "nearest_mode": "floor"}
    scales = np.array([1, 1, *factors], np.float32)
    for height, width in ((4, 6), (17, 5), (1, 1)):
        model = one_node("Resize", [None, scales], attributes, (1, channels, height, width))
        x = floats(1, channels, height, width)
        expected = onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0]
        result = ov.Core().compile_model(lowered(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]
        np.testing.assert_allclose(result, expected, atol=2e-5)


def test_the_transposes_of_a_depth_to_space_are_merged() -> None:
    """Reshape, Transpose, Reshape of a head: three are written, the last two become one. The first, to channels-last,
    is none behind a convolution, which leaves its values so."""
    constants: Constants = {"split": ints(3, 2, 2, 5, 7), "whole": ints(1, 3, 10, 14)}
    nodes = [
        helper.make_node("Reshape", ["x", "split"], ["a"], "a"),
        helper.make_node("Transpose", ["a"], ["b"], "b", perm=[0, 3, 1, 4, 2]),
        helper.make_node("Reshape", ["b", "whole"], ["y"], "y"),
    ]
    graph = helper.make_graph(
        nodes,
        "shuffle",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 12, 5, 7))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    x = floats(1, 12, 5, 7)
    compiled = ov.Core().compile_model(lowered(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    assert np.array_equal(compiled(x)[0], onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0])
    ran = [op.get_rt_info()["layerType"].astype(str) for op in compiled.get_runtime_model().get_ops()]
    assert ran.count("Transpose") == 2


def test_split_gives_one_slice_per_output() -> None:
    model = one_node("Split", [ints(1, 3, 2)], {"axis": -1}, (1, 2, 6))
    model.graph.node[0].output.extend(["z", "w"])
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("z", "w"))
    x = floats(1, 2, 6)
    result = ov.Core().compile_model(lowered(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)
    for place, part in enumerate(np.split(x, [1, 4], axis=2)):
        assert np.array_equal(result[place], part)


def test_every_op_of_the_table_is_tested() -> None:
    elsewhere = {"QuantizeLinear", "DequantizeLinear", "Resize", "Split"}
    assert set(OPS) == {case[0] for case in CASES} | elsewhere


def test_what_runtimes_disagree_about_is_refused() -> None:
    scales = np.array([1, 1, 2, 2], np.float32)
    corners = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    with pytest.raises(GraphError, match=r"'node' \(Resize\).*align_corners"):
        lowered(one_node("Resize", [None, scales], corners, (1, 2, 4, 4)))
    with pytest.raises(GraphError, match=r"'node' \(Conv\).*auto_pad"):
        lowered(one_node("Conv", [floats(2, 2, 3, 3)], {"auto_pad": "SAME_UPPER"}, (1, 2, 8, 8)))
