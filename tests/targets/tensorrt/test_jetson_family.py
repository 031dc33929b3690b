"""The ops and float islands of the whole family in a build kit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from island_graphs import ISLAND, ISLANDS, PIECES, REASON, SIZE, write_piece
from onnx import TensorProto, helper
from tiny_graph import frames_u8

from edge_unet.canonical import load_graph, view_graph
from edge_unet.canonical.rules import check_rules
from edge_unet.core.errors import GraphError
from edge_unet.core.protocols import LayerSession
from edge_unet.core.spec import Precision, feed_from_pixels
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.tensorrt import TARGET
from edge_unet.targets.tensorrt.graphs import fp16_graph, int8_graph
from edge_unet.targets.tensorrt.kit.spec import load_kit
from edge_unet.targets.tensorrt.rules import RULES_FOR_TENSORRT

WIDE = ("elementwise", "scan")
"""Islands with exp, log or softplus."""


@pytest.mark.parametrize("name", [*PIECES, *ISLANDS])
def test_the_kit_means_what_the_reference_computes(name: str, tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "piece.onnx", {**PIECES, **ISLANDS}[name])
    assert check_rules(view_graph(int8_graph(load_graph(canonical))[0]), RULES_FOR_TENSORRT) == ()
    artifact = TARGET.lower(canonical, Precision.INT8, into=tmp_path)
    preprocess = load_graph(canonical).metadata.preprocess
    with TARGET.open(tmp_path, artifact) as session, open_reference(canonical) as reference:
        assert isinstance(session, LayerSession)
        feed = {"image": feed_from_pixels(frames_u8(1, SIZE, seed=7), artifact.inputs[0], preprocess)}
        expected, ours = reference.codes(feed), session.codes(feed)
        assert all(np.array_equal(ours[tensor], expected[tensor]) for tensor in ours)
        rounded = np.clip(np.rint(session.infer(feed)["logits"] * 16), -128, 127) / 16
        assert np.array_equal(rounded, reference.infer(feed)["logits"])
        layers = session.census().layers
    inside = [layer for layer in layers if layer.unit.endswith(f", float island {ISLAND}: {REASON}")]
    assert bool(inside) == (name in ISLANDS) == (f"1 float island: {REASON}" in artifact.notes)
    assert {layer.precision for layer in inside} <= {"fp32"}
    floats = {layer.op for layer in layers if layer.precision != "int8" and layer not in inside}
    assert floats <= {"Conv", "ReduceMax", "GlobalMaxPool"}  # the head's logits are float; Reduce takes no INT8
    kit = load_kit(tmp_path / artifact.path)
    assert kit.graphs["int8"].strongly_typed == (name in WIDE)
    assert kit.graphs["fp16"].strongly_typed


@pytest.mark.parametrize("name", [*PIECES, *ISLANDS])
def test_the_fp16_twin_is_near_the_float_twin(name: str, tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "piece.onnx", {**PIECES, **ISLANDS}[name])
    artifact = TARGET.lower(canonical, Precision.FP16, into=tmp_path)
    preprocess = load_graph(canonical).metadata.preprocess
    with TARGET.open(tmp_path, artifact) as session, open_reference(canonical, Precision.FP16) as reference:
        feed = {"image": feed_from_pixels(frames_u8(1, SIZE, seed=7), artifact.inputs[0], preprocess)}
        assert np.abs(session.infer(feed)["logits"] - reference.infer(feed)["logits"]).max() < 0.05
        precisions = session.census().by_precision()
    assert set(precisions) == ({"fp16", "fp32"} if name in WIDE else {"fp16"})


@pytest.mark.parametrize("name", ISLANDS)
def test_only_wide_islands_stay_float32_in_the_twin(name: str, tmp_path: Path) -> None:
    graph = load_graph(write_piece(tmp_path / "piece.onnx", ISLANDS[name]))
    model = fp16_graph(graph)
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    for node in model.graph.node:
        inside = node.name == ISLAND or node.name.startswith(f"{ISLAND}.")
        if not inside or node.op_type == "Cast":
            continue
        expected = TensorProto.FLOAT if name in WIDE else TensorProto.FLOAT16
        assert {kinds[output] for output in node.output} == {expected}, node.name
    casts = [node.name for node in model.graph.node if node.op_type == "Cast"]
    wide = [f"{ISLAND}.fp16"] if name in WIDE else []
    assert casts[-1] == "logits.fp16"
    assert [cast for cast in casts if cast.startswith(ISLAND)] == wide
    assert onnx.checker.check_model(model, full_check=True) is None


def test_a_constant_that_an_island_shares_is_there_in_both_types(tmp_path: Path) -> None:
    model = onnx.load(write_piece(tmp_path / "piece.onnx", ISLANDS["elementwise"]))
    relu = next(node for node in model.graph.node if node.name == "after.act")  # Clip(0, 6)
    divide = next(node for node in model.graph.node if node.op_type == "Div")
    divide.input[1] = relu.input[2]
    twin = fp16_graph(view_graph(model))
    kinds = {tensor.name: tensor.data_type for tensor in twin.graph.initializer}
    assert kinds[relu.input[2]] == TensorProto.FLOAT16
    assert kinds[f"{relu.input[2]}.fp32"] == TensorProto.FLOAT


def test_constants_of_wide_islands_may_exceed_fp16(tmp_path: Path) -> None:
    for name, refused in (("elementwise", False), ("position", True)):
        model = onnx.load(write_piece(tmp_path / "piece.onnx", ISLANDS[name]))
        reader = next(
            node for node in model.graph.node if node.op_type in ("Div", "Add") and node.name.startswith(ISLAND)
        )
        constant = next(tensor for tensor in model.graph.initializer if tensor.name == reader.input[1])
        constant.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(constant) * 1e6, constant.name))
        if not refused:
            fp16_graph(view_graph(model))
            continue
        with pytest.raises(GraphError, match="expected values within FP16's"):
            fp16_graph(view_graph(model))


def test_a_computed_parameter_is_named(tmp_path: Path) -> None:
    model = onnx.load(write_piece(tmp_path / "piece.onnx", PIECES["channel max"]))
    place = next(n for n, node in enumerate(model.graph.node) if node.op_type == "ReduceMax")
    reader = model.graph.node[place]
    model.graph.node.insert(place, helper.make_node("Identity", [reader.input[1]], ["computed"], "computed"))
    reader.input[1] = "computed"
    found = check_rules(view_graph(model), {"parameters": RULES_FOR_TENSORRT["tensorrt-constant-parameters"]})
    assert [(v.node, v.message) for v in found] == [
        ("best", "expected a constant, received the computed tensor 'computed'")
    ]


def test_the_kit_says_what_stays_float32(tmp_path: Path) -> None:
    for name in ("scan", "attention"):
        into = tmp_path / name
        into.mkdir()
        artifact = TARGET.lower(write_piece(into / "piece.onnx", ISLANDS[name]), Precision.INT8, into=into)
        values = json.loads((into / artifact.path / "kit.json").read_text(encoding="utf-8"))
        assert values["graphs"]["int8"]["float32_islands"] is (name in WIDE)
        assert any("computed in float32, not FP16" in note for note in artifact.notes) == (name in WIDE)
