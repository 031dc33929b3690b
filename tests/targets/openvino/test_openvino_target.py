from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx.reference
import openvino as ov
import pytest
from numpy.typing import NDArray
from onnx import helper
from tiny_graph import GraphWriter
from tiny_graph import frames_u8 as make_frames

from edge_unet.canonical import load_graph, parse_metadata, strip_qdq, write_metadata
from edge_unet.core.errors import ArtifactError, GraphError, UsageError
from edge_unet.core.protocols import LayerSession
from edge_unet.core.spec import Precision, feed_from_pixels, mask_from_logits
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.openvino import TARGET
from edge_unet.targets.openvino.lower import lower
from edge_unet.targets.openvino.ops_resize import growing
from edge_unet.targets.openvino.read_back import read_back
from edge_unet.targets.openvino.runtime import has_bf16, open_openvino

Logits = list[NDArray[np.float32]]


@pytest.fixture(params=["tiny_canonical", "tiny_canonical_multiclass"])
def canonical(request: pytest.FixtureRequest) -> Path:
    path = request.getfixturevalue(request.param)
    assert isinstance(path, Path)
    return path


@pytest.fixture
def other_ops(tmp_path: Path, tiny_canonical: Path) -> Path:
    """A graph with what the reference network lacks: mid-network linear Resize, a gate, Sigmoid, average pools."""
    g = GraphWriter(64, 3)
    x = g.conv("stem", "image", 3, 16, 3, stride=2)
    gate = g.op("GlobalAveragePool", "squeeze", [x])
    gate = g.op("HardSigmoid", "gate", [g.conv("excite", gate, 16, 16, 1, act="")], alpha=1 / 6, beta=0.5)
    x = g.op("Mul", "gated", [x, gate])
    down = g.op("AveragePool", "average", [x], kernel_shape=[2, 2], strides=[2, 2])
    down = g.conv("wide", down, 16, 24, 1)
    up = g.resize("linear", down, "linear")
    up = g.op("Sigmoid", "curve", [g.conv("narrow", up, 24, 16, 1, act="")])
    cat = g.op("Concat", "concat", [up, x], axis=1)  # two scales
    logits = g.conv("head", cat, 32, 1, 1, act="logits")
    model = g.finish(g.resize("resize", logits, "linear"), make_frames(4, 64))
    write_metadata(model, load_graph(tiny_canonical).metadata)
    path = tmp_path / "other.onnx"
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path


def reference_logits(canonical: Path, frames: NDArray[np.uint8]) -> Logits:
    preprocess = load_graph(canonical).metadata.preprocess
    with open_reference(canonical) as session:
        spec = session.artifact.inputs[0]
        return [session.infer({"image": feed_from_pixels(f[None], spec, preprocess)})["logits"] for f in frames]


def agreement(ours: Logits, theirs: Logits) -> float:
    pairs = zip(ours, theirs, strict=True)
    return float(np.mean([mask_from_logits(a) == mask_from_logits(b) for a, b in pairs]))


def test_every_conv_is_i8_and_masks_agree(canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path) -> None:
    artifact = lower(canonical, Precision.INT8, into=tmp_path)
    with open_openvino(tmp_path, artifact) as session:
        ours = [session.infer({"image": frame[None]})["logits"] for frame in frames_u8]
        census = session.census()
    convs = {layer.name: layer for layer in census.layers if layer.op == "Conv"}
    assert set(convs) == {node.name for node in load_graph(canonical).nodes if node.op == "Conv"}
    assert all(layer.precision == "int8" and layer.unit.lower().endswith("i8") for layer in convs.values())
    # On scales of few significant bits int32 and float32 sums are the same number, and so is every rounding. This is
    # the graph that users run, all its fusions on; a rounding lost in a fused kernel would show here.
    assert all(np.array_equal(a, b) for a, b in zip(ours, reference_logits(canonical, frames_u8), strict=True))


def test_teacher_forced_codes_are_equal(canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path) -> None:
    artifact = lower(canonical, Precision.INT8, into=tmp_path)
    preprocess = load_graph(canonical).metadata.preprocess
    with open_reference(canonical) as reference, open_openvino(tmp_path, artifact) as session:
        assert isinstance(session, LayerSession)
        pixels = frames_u8[:1]
        expected = reference.codes({"image": feed_from_pixels(pixels, reference.artifact.inputs[0], preprocess)})
        free = session.codes({"image": pixels})
        forced = session.codes({"image": pixels}, force=expected)
    assert set(forced) == set(expected) == set(free)
    for name, codes in expected.items():
        assert forced[name].dtype == np.int8
        np.testing.assert_array_equal(forced[name], codes, err_msg=name)


def test_forcing_replaces_a_tensor_for_its_readers_only(
    tiny_canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path
) -> None:
    artifact = lower(tiny_canonical, Precision.INT8, into=tmp_path)
    with open_openvino(tmp_path, artifact) as session:
        free = session.codes({"image": frames_u8[:1]})
        middle, last = list(free)[len(free) // 2], list(free)[-1]
        changed = session.codes({"image": frames_u8[:1]}, force={middle: np.zeros_like(free[middle])})
        with pytest.raises(UsageError, match="unknown tensors nonsense"):
            session.codes({"image": frames_u8[:1]}, force={"nonsense": free[middle]})
    assert np.array_equal(changed[middle], free[middle])
    assert not np.array_equal(changed[last], free[last])


def test_read_back_equals_the_canonical_scales_and_integers(canonical: Path, tmp_path: Path) -> None:
    graph = load_graph(canonical)
    found = read_back(tmp_path, lower(canonical, Precision.INT8, into=tmp_path))
    assert set(found.activations) == set(graph.activations)
    for name, grid in graph.activations.items():
        assert found.activations[name].scale.dtype == np.float32
        assert np.array_equal(found.activations[name].scale, grid.scale), name
    zero_points = {name: grid.zero_point for name, grid in found.activations.items() if grid.zero_point}
    assert zero_points == {"image.q": 128}
    assert set(found.weights) == {weight.name for weight in graph.weights.values()}
    for weight in graph.weights.values():
        values, grid = found.weights[weight.name]
        assert values.dtype == np.int8
        assert np.array_equal(values, weight.values), weight.name
        assert np.array_equal(grid.scale, weight.grid.scale), weight.name
    assert not found.absent


def test_a_changed_range_is_seen(tiny_canonical: Path, tmp_path: Path) -> None:
    artifact = lower(tiny_canonical, Precision.INT8, into=tmp_path)
    model = ov.Core().read_model(tmp_path / "model/model.xml")
    node = next(n for n in model.get_ordered_ops() if n.get_friendly_name() == "stem.act.q")
    wrong = ov.opset13.constant(np.float32(np.nextafter(node.input_value(4).get_node().data, np.float32(9))))
    node.input(4).replace_source_output(wrong.output(0))
    other = tmp_path / "other/model"
    other.mkdir(parents=True)
    ov.serialize(model, str(other / "model.xml"), str(other / "model.bin"))
    with pytest.raises(ArtifactError, match=r"stem\.act\.q"):
        read_back(tmp_path / "other", artifact)


def test_fp32_equals_the_float_twin(canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path) -> None:
    artifact = lower(canonical, Precision.FP32, into=tmp_path)
    graph = load_graph(canonical)
    twin = onnx.reference.ReferenceEvaluator(strip_qdq(graph))
    with open_openvino(tmp_path, artifact) as session:
        spec = session.artifact.inputs[0]
        feeds = [{"image": feed_from_pixels(f[None], spec, graph.metadata.preprocess)} for f in frames_u8]
        ours = [session.infer(feed)["logits"] for feed in feeds]
        assert {layer.precision for layer in session.census().layers} == {"fp32"}
        with pytest.raises(UsageError, match="no codes"):
            session.codes(feeds[0])
    np.testing.assert_allclose(ours[0], twin.run(None, feeds[0])[0], atol=1e-3)
    assert agreement(ours, reference_logits(canonical, frames_u8)) >= 0.95  # the twin rounds nowhere
    assert read_back(tmp_path, artifact).activations == {}


def test_other_ops_lower_too(other_ops: Path, tmp_path: Path) -> None:
    frames = make_frames(2, 64, seed=9)
    artifact = lower(other_ops, Precision.INT8, into=tmp_path)
    preprocess = load_graph(other_ops).metadata.preprocess
    with open_reference(other_ops) as reference, open_openvino(tmp_path, artifact) as session:
        expected = reference.codes({"image": feed_from_pixels(frames[:1], reference.artifact.inputs[0], preprocess)})
        forced = session.codes({"image": frames[:1]}, force=expected)
        convs = [layer for layer in session.census().layers if layer.op == "Conv"]
        logits = session.infer({"image": frames[:1]})["logits"]
    assert set(forced) == set(expected)
    last = list(expected)[-1]
    assert np.mean(np.rint(logits * 16) == expected[last]) >= 0.99  # fused, as users run it
    assert max(int(np.abs(forced[n].astype(np.int16) - c).max()) for n, c in expected.items()) <= 1
    assert {layer.precision for layer in convs} == {"int8"}


def test_growing_is_half_pixel_linear_interpolation() -> None:
    line = np.array([0, 4, 8, 0], np.float32)
    assert np.array_equal(growing(4, 2) @ line, np.array([0, 1, 3, 5, 7, 6, 2, 0], np.float32))
    assert np.array_equal(growing(2, 4) @ line[1:3], np.array([4, 4, 4.5, 5.5, 6.5, 7.5, 8, 8], np.float32))


@pytest.mark.parametrize("precision", TARGET.precisions)
def test_same_input_same_bytes(tiny_canonical: Path, tmp_path: Path, precision: Precision) -> None:
    for name in ("a", "b/deeper"):
        (tmp_path / name).mkdir(parents=True)
    one = lower(tiny_canonical, precision, into=tmp_path / "a")
    two = lower(tiny_canonical, precision, into=tmp_path / "b/deeper")
    assert one == two
    files = sorted(p.name for p in (tmp_path / "a/model").iterdir())
    assert files == ["model.bin", "model.xml"]
    for name in files:
        assert (tmp_path / "a/model" / name).read_bytes() == (tmp_path / "b/deeper/model" / name).read_bytes()
    assert str(tmp_path) not in (tmp_path / "a/model/model.xml").read_text()


def test_model_info_is_in_the_ir(tiny_canonical: Path, tmp_path: Path) -> None:
    for precision, mean, scale in ((Precision.INT8, "0 0 0", "1 1 1"), (Precision.FP32, "128 128 128", "64 64 64")):
        lower(tiny_canonical, precision, into=tmp_path)
        model = ov.Core().read_model(tmp_path / "model/model.xml")
        info = {key: model.get_rt_info(["model_info", key]).value for key in ("model_type", "labels", "mean_values")}
        assert info == {"model_type": "Segmentation", "labels": "background foreground", "mean_values": mean}
        assert model.get_rt_info(["model_info", "scale_values"]).value == scale
        assert parse_metadata(model.get_rt_info(["edge_unet"]).value) == load_graph(tiny_canonical).metadata


def test_outputs_survive_the_next_call(tiny_canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path) -> None:
    with open_openvino(tmp_path, lower(tiny_canonical, Precision.INT8, into=tmp_path)) as session:
        first = session.infer({"image": frames_u8[:1]})["logits"]
        kept = first.copy()
        second = session.infer({"image": frames_u8[1:2]})["logits"]
    assert np.array_equal(first, kept)
    assert not np.array_equal(first, second)


def test_bf16_where_the_cpu_has_it(tiny_canonical: Path, tmp_path: Path) -> None:
    artifact = lower(tiny_canonical, Precision.FP32, into=tmp_path)
    if has_bf16():
        with open_openvino(tmp_path, artifact, bf16=True) as session:
            assert "bf16" in session.census().by_precision()
    else:
        with pytest.raises(UsageError, match="bfloat16"), open_openvino(tmp_path, artifact, bf16=True):
            pass
    quantized = lower(tiny_canonical, Precision.INT8, into=tmp_path)
    with pytest.raises(UsageError, match="fp32 artifact"), open_openvino(tmp_path, quantized, bf16=True):
        pass


def test_an_unknown_op_is_named(tiny_canonical: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_canonical)
    tail = next(n for n in model.graph.node if n.output[0] == "logits")
    tail.output[0] = "before"
    model.graph.node.append(helper.make_node("Celu", ["before"], ["logits"], "strange"))
    onnx.save(model, tmp_path / "canonical.onnx")
    with pytest.raises(GraphError, match=r"'strange' \(Celu\).*known ops: .*Conv"):
        lower(tmp_path / "canonical.onnx", Precision.INT8, into=tmp_path)


@pytest.mark.parametrize("name", ["model.xml", "model.bin"])
def test_damaged_files(tiny_canonical: Path, tmp_path: Path, name: str) -> None:
    artifact = lower(tiny_canonical, Precision.INT8, into=tmp_path)
    path = tmp_path / "model" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ArtifactError, match="damaged"), open_openvino(tmp_path, artifact):
        pass
    path.unlink()
    with pytest.raises(ArtifactError, match="no such file"):
        read_back(tmp_path, artifact)


def test_wrong_wishes(tiny_canonical: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no bf16 artifact"):
        lower(tiny_canonical, Precision.BF16, into=tmp_path)
    artifact = lower(tiny_canonical, Precision.INT8, into=tmp_path)
    with open_openvino(tmp_path, artifact) as session, pytest.raises(UsageError, match="uint8"):
        session.infer({"image": np.zeros((1, 64, 64, 3), np.float32)})
