"""Lowering to a build kit, what stands in for an engine here, and reading the kit back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from canonical.test_rules import insert_before, load_model, node, put, rescale, set_attribute
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_unet.canonical import load_graph, view_graph
from edge_unet.canonical.rules import check_rules
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import ArtifactError, GraphError, UsageError
from edge_unet.core.files import sha256_of
from edge_unet.core.protocols import LayerSession
from edge_unet.core.spec import Precision, feed_from_pixels, mask_from_logits
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.tensorrt import TARGET
from edge_unet.targets.tensorrt.graphs import fp16_graph, int8_graph
from edge_unet.targets.tensorrt.rules import RULES_FOR_TENSORRT


def lowered(canonical: Path, into: Path, precision: Precision = Precision.INT8) -> Artifact:
    into.mkdir()
    return TARGET.lower(canonical, precision, into=into)


def feeds(canonical: Path, artifact: Artifact, frame: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    preprocess = load_graph(canonical).metadata.preprocess
    return {"image": feed_from_pixels(frame[None], artifact.inputs[0], preprocess)}


@pytest.fixture(params=["binary", "multiclass"])
def canonical(request: pytest.FixtureRequest, tiny_canonical: Path, tiny_canonical_multiclass: Path) -> Path:
    return tiny_canonical if request.param == "binary" else tiny_canonical_multiclass


@pytest.mark.parametrize("precision", TARGET.precisions)
def test_same_input_same_bytes(canonical: Path, tmp_path: Path, precision: Precision) -> None:
    one, two = lowered(canonical, tmp_path / "a", precision), lowered(canonical, tmp_path / "b", precision)
    assert one == two
    assert sha256_of(tmp_path / "a" / one.path) == one.sha256


def test_only_the_last_pair_is_dropped(canonical: Path) -> None:
    graph = load_graph(canonical)
    model, dropped = int8_graph(graph)
    kit = view_graph(model)
    assert dropped == "resize.q"
    assert set(kit.activations) == set(graph.activations) - {dropped}
    assert kit.producers["logits"].op == "Resize"
    assert len(graph.nodes) - len(kit.nodes) == 2


def test_attributes_younger_than_the_parsers_opset_are_spelt_out(tiny_canonical: Path, tmp_path: Path) -> None:
    """torch's exporter writes output_dtype and block_size; without a zero point the attribute alone said int8."""
    model = load_model(tiny_canonical)
    for proto in model.graph.node:
        if proto.op_type == "QuantizeLinear":
            set_attribute(proto, "output_dtype", TensorProto.INT8)
        if proto.op_type in ("QuantizeLinear", "DequantizeLinear"):
            set_attribute(proto, "block_size", 0)
    del node(model, "mid.act.q").input[2]
    path = tmp_path / "verbose.onnx"
    path.write_bytes(model.SerializeToString())
    TARGET.lower(path, Precision.INT8, into=tmp_path)
    kit = load_graph(tmp_path / "jetson" / "model.onnx")
    names = {name for n in kit.nodes if n.op in ("QuantizeLinear", "DequantizeLinear") for name in n.attributes}
    assert names == {"axis"}
    assert kit.constants[kit.producers["mid.act.q"].inputs[2]].dtype == np.int8


def test_logits_differ_from_the_reference_by_the_dropped_rounding_only(
    canonical: Path, tmp_path: Path, frames_u8: NDArray[np.uint8]
) -> None:
    """Same kernels, one rounding less: rounding the kit's logits again gives the reference's, bit for bit."""
    artifact = lowered(canonical, tmp_path / "kit")
    with TARGET.open(tmp_path / "kit", artifact) as session, open_reference(canonical) as reference:
        for frame in frames_u8:
            fed = feeds(canonical, artifact, frame)
            ours, theirs = session.infer(fed)["logits"], reference.infer(fed)["logits"]
            assert np.array_equal(np.clip(np.rint(ours * 16), -128, 127) / 16, theirs)


def test_masks_differ_within_half_a_step_only(
    tiny_canonical: Path, tmp_path: Path, frames_u8: NDArray[np.uint8]
) -> None:
    artifact = lowered(tiny_canonical, tmp_path / "kit")
    with TARGET.open(tmp_path / "kit", artifact) as session, open_reference(tiny_canonical) as reference:
        for frame in frames_u8:
            fed = feeds(tiny_canonical, artifact, frame)
            ours, theirs = session.infer(fed)["logits"], reference.infer(fed)["logits"]
            differs = mask_from_logits(ours) != mask_from_logits(theirs)
            assert (np.abs(ours[:, 0][differs]) <= 1 / 32).all()


def test_fp16_masks_agree_with_the_float_twin(canonical: Path, tmp_path: Path, frames_u8: NDArray[np.uint8]) -> None:
    """Against the same graph in fp32, not against INT8: on random weights quantization itself moves 2-4 % of pixels."""
    from edge_unet.canonical import strip_qdq
    from edge_unet.targets.onnxruntime import sessions

    artifact = lowered(canonical, tmp_path / "kit", Precision.FP16)
    twin = sessions.start(strip_qdq(load_graph(canonical)).SerializeToString(), optimize=False)
    with TARGET.open(tmp_path / "kit", artifact) as session:
        for frame in frames_u8:
            fed = feeds(canonical, artifact, frame)
            ours, theirs = session.infer(fed)["logits"], twin.run(["logits"], fed)[0]
            assert (mask_from_logits(ours) == mask_from_logits(theirs)).mean() >= 0.99
            assert np.abs(ours - theirs).max() < 0.05


def test_codes_equal_the_reference(canonical: Path, tmp_path: Path, frames_u8: NDArray[np.uint8]) -> None:
    artifact = lowered(canonical, tmp_path / "kit")
    fed = feeds(canonical, artifact, frames_u8[0])
    with TARGET.open(tmp_path / "kit", artifact) as session, open_reference(canonical) as reference:
        assert isinstance(session, LayerSession)
        ours, theirs = session.codes(fed), reference.codes(fed)
        assert set(theirs) - set(ours) == {"resize.q"}
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
        forced = {"mid.act.q": np.zeros_like(ours["mid.act.q"])}
        after = session.codes(fed, force=forced)
        assert np.array_equal(after["mid.act.q"], ours["mid.act.q"])  # recorded before it is replaced
        assert not after["up1.q"].any()


def test_read_back_equals_the_canonical_graph(canonical: Path, tmp_path: Path) -> None:
    graph = load_graph(canonical)
    artifact = lowered(canonical, tmp_path / "kit")
    back = TARGET.read_back(tmp_path / "kit", artifact)
    assert set(back.absent) == {"resize.q"}
    assert set(back.activations) | set(back.absent) == set(graph.activations)
    for name, grid in back.activations.items():
        assert grid.zero_point == 0
        assert np.array_equal(grid.scale, graph.activations[name].scale)
    weights = {weight.name: weight for weight in graph.weights.values()}
    assert set(back.weights) == set(weights)
    for name, (values, grid) in back.weights.items():
        assert np.array_equal(values, weights[name].values)
        assert np.array_equal(grid.scale, weights[name].grid.scale)


def test_an_fp16_kit_holds_no_integers(tiny_canonical: Path, tmp_path: Path) -> None:
    artifact = lowered(tiny_canonical, tmp_path / "kit", Precision.FP16)
    back = TARGET.read_back(tmp_path / "kit", artifact)
    assert (dict(back.activations), dict(back.weights), dict(back.absent)) == ({}, {}, {})
    with TARGET.open(tmp_path / "kit", artifact) as session:
        assert isinstance(session, LayerSession)
        with pytest.raises(UsageError, match="fp16 artifact has no codes"):
            session.codes({"image": np.zeros((1, 3, 64, 64), np.float32)})


def test_the_fp16_graph_is_strongly_typed(tiny_canonical: Path) -> None:
    """float32 at input, output and Resize scales only."""
    model = fp16_graph(load_graph(tiny_canonical))
    floats = {i.name for i in model.graph.initializer if i.data_type == TensorProto.FLOAT}
    assert floats == {"twice"}
    tensors = {v.name for v in model.graph.value_info if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    assert tensors == set()
    kinds = [v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)]
    assert kinds == [TensorProto.FLOAT] * 2


def test_the_session_says_that_it_is_no_engine(tiny_canonical: Path, tmp_path: Path) -> None:
    artifact = lowered(tiny_canonical, tmp_path / "kit")
    with TARGET.open(tmp_path / "kit", artifact) as session:
        assert session.runtime.startswith("Q/DQ semantics on onnxruntime ")
        census = session.census()
    assert "not a TensorRT engine" in census.source
    assert [layer.name for layer in census.layers if layer.precision != "int8"] == ["resize"]
    assert {layer.op for layer in census.layers} == {"Conv", "Add", "MaxPool", "Resize", "Concat"}
    assert census.int8_layers == 16


def test_the_kit_is_written_as_it_is_used(tiny_canonical: Path, tmp_path: Path) -> None:
    artifact = lowered(tiny_canonical, tmp_path / "kit")
    kit = tmp_path / "kit" / artifact.path
    text = (kit / "README.txt").read_text(encoding="utf-8")
    assert "python3 build.py" in text
    assert "python3 infer.py" in text
    assert "64x64" in text
    assert {path.name for path in kit.iterdir()} == {
        "model.onnx", "model.fp16.onnx", "kit.json", "dropped.json", "build.py", "infer.py", "README.txt",
        "edge_unet_kit",
    }  # fmt: skip


def test_other_precisions_and_bf16_are_usage_errors(tiny_canonical: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no fp32; expected one of int8, fp16"):
        TARGET.lower(tiny_canonical, Precision.FP32, into=tmp_path)
    artifact = lowered(tiny_canonical, tmp_path / "kit")
    with pytest.raises(UsageError, match="no bf16"), TARGET.open(tmp_path / "kit", artifact, bf16=True):
        pass


def test_a_truncated_kit_is_an_artifact_error(tiny_canonical: Path, tmp_path: Path) -> None:
    artifact = lowered(tiny_canonical, tmp_path / "kit")
    model = tmp_path / "kit" / artifact.path / "model.onnx"
    model.write_bytes(model.read_bytes()[:-500])
    with pytest.raises(ArtifactError, match="sha256 expected"), TARGET.open(tmp_path / "kit", artifact):
        pass
    with pytest.raises(ArtifactError, match="damaged or truncated"):
        TARGET.read_back(tmp_path / "kit", artifact)


def test_a_truncated_canonical_file_is_an_artifact_error(tiny_canonical: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(tiny_canonical.read_bytes()[:-2000])
    with pytest.raises(ArtifactError, match="damaged or truncated"):
        TARGET.lower(path, Precision.INT8, into=tmp_path)


# --- rules ----------------------------------------------------------------------------------------------------------


def test_the_kits_graph_keeps_every_rule(canonical: Path) -> None:
    assert check_rules(view_graph(int8_graph(load_graph(canonical))[0]), RULES_FOR_TENSORRT) == ()


def unknown_op(model: onnx.ModelProto) -> None:
    insert_before(model, "resize", helper.make_node("Shrink", [node(model, "resize").input[0]], ["shrunk"], "shrunk"))
    scale = node(model, "head.act.q").input[1]
    insert_before(
        model,
        "resize",
        helper.make_node("QuantizeLinear", ["shrunk", scale, "zp"], ["shrunk.q"], "shrunk.q"),
        helper.make_node("DequantizeLinear", ["shrunk.q", scale, "zp"], ["shrunk.dq"], "shrunk.dq"),
    )
    node(model, "resize").input[0] = "shrunk.dq"


def asymmetric(model: onnx.ModelProto) -> None:
    rescale(model, "expand.act", 2**-5, np.int8(-128))


def two_pairs_at_the_end(model: onnx.ModelProto) -> None:
    scale = node(model, "resize.q").input[1]
    node(model, "resize.dq").output[0] = "again"
    model.graph.node.extend(
        [
            helper.make_node("QuantizeLinear", ["again", scale, "zp"], ["again.q"], "again.q"),
            helper.make_node("DequantizeLinear", ["again.q", scale, "zp"], ["logits"], "again.dq"),
        ]
    )


def concat_scale(model: onnx.ModelProto) -> None:
    rescale(model, "concat0", 0.25)


def weight_minus_128(model: onnx.ModelProto) -> None:
    codes = np.full((16, 32, 1, 1), -128, np.int8)
    put(model, "mid.weight", codes)


def align_corners(model: onnx.ModelProto) -> None:
    set_attribute(node(model, "up1"), "coordinate_transformation_mode", "align_corners")


@pytest.mark.parametrize(
    ("damage", "rule", "where"),
    [
        (unknown_op, "tensorrt-ops", "shrunk"),
        (asymmetric, "tensorrt-int8-zero-point-0", "expand.act.q"),
        (two_pairs_at_the_end, "tensorrt-float-output", "resize.dq"),
        (concat_scale, "shared-scale", "concat0"),
        (weight_minus_128, "weights-symmetric", "mid.weight"),
        (align_corners, "resize-modes", "up1"),
    ],
)
def test_a_graph_tensorrt_would_refuse_is_named(
    tiny_canonical: Path, tmp_path: Path, damage: Callable[[onnx.ModelProto], None], rule: str, where: str
) -> None:
    model = load_model(tiny_canonical)
    damage(model)
    path = tmp_path / "broken.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match=r"breaks 1 rule\(s\)") as caught:
        TARGET.lower(path, Precision.INT8, into=tmp_path)
    assert f"[{rule}] {where}: expected" in str(caught.value)
    assert not (tmp_path / "jetson").exists()


def test_an_opset_the_parser_does_not_know_is_named(tiny_canonical: Path) -> None:
    model, _ = int8_graph(load_graph(tiny_canonical))
    model.opset_import[0].version = 21
    found = check_rules(view_graph(model), RULES_FOR_TENSORRT)
    assert [(v.rule, v.message) for v in found] == [("tensorrt-opset", "expected opset 20 or older, received 21")]


def test_a_graph_without_a_last_pair_is_named(tiny_canonical: Path, tmp_path: Path) -> None:
    model, _ = int8_graph(load_graph(tiny_canonical))
    path = tmp_path / "float.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match=r"node 'resize' \(Resize\): expected a Q/DQ pair"):
        TARGET.lower(path, Precision.INT8, into=tmp_path)


def test_constants_beyond_fp16_are_named(tiny_canonical: Path, tmp_path: Path) -> None:
    model = load_model(tiny_canonical)
    put(model, "mid.bias", np.full(16, 1e5, np.float32))
    path = tmp_path / "large.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        GraphError, match=r"constant 'mid\.bias': expected values within FP16's ±65504, received 100000"
    ):
        TARGET.lower(path, Precision.FP16, into=tmp_path)
