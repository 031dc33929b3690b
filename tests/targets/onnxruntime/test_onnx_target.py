from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from island_graphs import ISLAND, ISLANDS, PIECES, REASON, SIZE, write_piece
from numpy.typing import NDArray
from one_op_graph import OneOp
from onnx import helper
from tiny_graph import frames_u8 as make_frames

from edge_unet.canonical import load_graph
from edge_unet.core.artifact import Artifact, Census
from edge_unet.core.errors import ArtifactError, GraphError, UsageError
from edge_unet.core.protocols import LayerSession
from edge_unet.core.spec import Precision, feed_from_pixels, mask_from_logits
from edge_unet.targets.onnxruntime import TARGET
from edge_unet.targets.onnxruntime.lower import lower
from edge_unet.targets.onnxruntime.read_back import read_back
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.onnxruntime.runtime import OnnxSession, open_onnx


@pytest.fixture(params=["tiny_canonical", "tiny_canonical_multiclass"])
def canonical(request: pytest.FixtureRequest) -> Path:
    path = request.getfixturevalue(request.param)
    assert isinstance(path, Path)
    return path


def reference_logits(canonical: Path, frames: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    preprocess = load_graph(canonical).metadata.preprocess
    with open_reference(canonical) as session:
        spec = session.artifact.inputs[0]
        return [session.infer({"image": feed_from_pixels(f[None], spec, preprocess)})["logits"] for f in frames]


def artifact_logits(session: OnnxSession, frames: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    return [session.infer({"image": frame[None]})["logits"] for frame in frames]


def agreement(ours: list[NDArray[np.float32]], theirs: list[NDArray[np.float32]]) -> float:
    pairs = zip(ours, theirs, strict=True)
    return float(np.mean([mask_from_logits(a) == mask_from_logits(b) for a, b in pairs]))


def test_as_written_the_lowered_graph_is_bit_exact(
    canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path
) -> None:
    artifact = lower(canonical, Precision.INT8, into=tmp_path)
    ours = artifact_logits(OnnxSession(tmp_path, artifact, 1, optimize=False), frames_u8)
    theirs = reference_logits(canonical, frames_u8)
    assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_optimized_every_conv_is_integer_and_masks_agree(
    canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path
) -> None:
    artifact = lower(canonical, Precision.INT8, into=tmp_path)
    with open_onnx(tmp_path, artifact) as session:
        ours = artifact_logits(session, frames_u8)
        census = session.census()
    # On scales of few significant bits int32 and float32 sums are the same number, and so is every rounding.
    assert all(np.array_equal(a, b) for a, b in zip(ours, reference_logits(canonical, frames_u8), strict=True))
    convs = [layer for layer in census.layers if layer.op == "Conv"]
    assert len(convs) == sum(node.op == "Conv" for node in load_graph(canonical).nodes)
    assert {layer.precision for layer in convs} == {"int8"}
    assert [layer.op for layer in census.layers if layer.precision != "int8"] == ["Resize"]


def test_teacher_forced_codes_are_equal(tiny_canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path) -> None:
    artifact = lower(tiny_canonical, Precision.INT8, into=tmp_path)
    preprocess = load_graph(tiny_canonical).metadata.preprocess
    with open_reference(tiny_canonical) as reference, open_onnx(tmp_path, artifact) as session:
        assert isinstance(session, LayerSession)
        pixels = frames_u8[:1]
        expected = reference.codes({"image": feed_from_pixels(pixels, reference.artifact.inputs[0], preprocess)})
        free = session.codes({"image": pixels})
        forced = session.codes({"image": pixels}, force=expected)
    assert set(forced) == set(expected) == set(free)
    for name, codes in expected.items():
        assert forced[name].dtype == np.int8
        np.testing.assert_array_equal(forced[name], codes, err_msg=name)


def test_read_back_equals_the_canonical_scales_and_integers(canonical: Path, tmp_path: Path) -> None:
    graph = load_graph(canonical)
    found = read_back(tmp_path, lower(canonical, Precision.INT8, into=tmp_path))
    assert set(found.activations) == set(graph.activations)
    for name, grid in graph.activations.items():
        assert found.activations[name].zero_point == 128
        assert found.activations[name].scale.dtype == np.float32
        assert np.array_equal(found.activations[name].scale, grid.scale), name
    assert set(found.weights) == {weight.name for weight in graph.weights.values()}
    for weight in graph.weights.values():
        values, grid = found.weights[weight.name]
        assert values.dtype == np.int8
        assert np.array_equal(values, weight.values)
        assert np.array_equal(grid.scale, weight.grid.scale)
    assert not found.absent


def test_read_back_refuses_two_scales_on_one_tensor(tiny_canonical: Path, tmp_path: Path) -> None:
    artifact = lower(tiny_canonical, Precision.INT8, into=tmp_path)
    model = onnx.load(tmp_path / artifact.path)
    reader = next(n for n in model.graph.node if n.op_type == "DequantizeLinear" and n.input[0] == "stem.act.q")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "other"))
    reader.input[1] = "other"
    onnx.save(model, tmp_path / artifact.path)
    with pytest.raises(ArtifactError, match="two scales"):
        read_back(tmp_path, artifact)


def test_fp32_masks_agree(canonical: Path, frames_u8: NDArray[np.uint8], tmp_path: Path) -> None:
    artifact = lower(canonical, Precision.FP32, into=tmp_path)
    preprocess = load_graph(canonical).metadata.preprocess
    with open_onnx(tmp_path, artifact) as session:
        spec = session.artifact.inputs[0]
        ours = [session.infer({"image": feed_from_pixels(f[None], spec, preprocess)})["logits"] for f in frames_u8]
        assert session.census().by_precision().keys() == {"fp32"}
        with pytest.raises(UsageError, match="no codes"):
            session.codes({"image": feed_from_pixels(frames_u8[:1], spec, preprocess)})
    assert agreement(ours, reference_logits(canonical, frames_u8)) >= 0.95  # the float twin rounds nowhere
    assert read_back(tmp_path, artifact).activations == {}


@pytest.mark.parametrize("precision", TARGET.precisions)
def test_same_input_same_bytes(tiny_canonical: Path, tmp_path: Path, precision: Precision) -> None:
    artifacts: list[Artifact] = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        artifacts.append(lower(tiny_canonical, precision, into=tmp_path / name))
    assert artifacts[0] == artifacts[1]
    assert (tmp_path / "a/model.onnx").read_bytes() == (tmp_path / "b/model.onnx").read_bytes()
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a/model.onnx"]


def test_an_unknown_op_is_named(tiny_canonical: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_canonical)
    tail = next(n for n in model.graph.node if n.output[0] == "logits")
    tail.output[0] = "before"
    model.graph.node.append(helper.make_node("Celu", ["before"], ["logits"], "strange"))
    onnx.save(model, tmp_path / "canonical.onnx")
    with pytest.raises(GraphError, match=r"'strange' \(Celu\).*known ops: .*Conv"):
        lower(tmp_path / "canonical.onnx", Precision.INT8, into=tmp_path)


def test_an_input_quantizer_that_is_not_the_frame_is_refused(tiny_canonical: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_canonical)
    name = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and n.input[0] == "image").input[1]
    scale = next(i for i in model.graph.initializer if i.name == name)
    scale.CopyFrom(onnx.numpy_helper.from_array(np.float32(1 / 32), name))
    onnx.save(model, tmp_path / "canonical.onnx")
    with pytest.raises(GraphError, match="equal scales"):
        lower(tmp_path / "canonical.onnx", Precision.INT8, into=tmp_path)


def test_damaged_files_and_wrong_wishes(tiny_canonical: Path, tmp_path: Path) -> None:
    artifact = lower(tiny_canonical, Precision.INT8, into=tmp_path)
    with pytest.raises(UsageError, match="no bf16"):
        lower(tiny_canonical, Precision.BF16, into=tmp_path)
    with pytest.raises(UsageError, match="bfloat16"), open_onnx(tmp_path, artifact, bf16=True):
        pass
    with open_onnx(tmp_path, artifact) as session, pytest.raises(UsageError, match="uint8"):
        session.infer({"image": np.zeros((1, 64, 64, 3), np.float32)})
    whole = (tmp_path / artifact.path).read_bytes()
    (tmp_path / artifact.path).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"model\.onnx"), open_onnx(tmp_path, artifact):
        pass
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        read_back(tmp_path, artifact)


def compare_with_reference(canonical: Path, folder: Path) -> Census:
    """Codes teacher-forced and logits free-running must equal the reference's; the census of what ran."""
    artifact = lower(canonical, Precision.INT8, into=folder)
    assert (f"1 float island: {REASON}" in artifact.notes) == (ISLAND in load_graph(canonical).islands)
    frames = make_frames(2, SIZE, seed=7)
    preprocess = load_graph(canonical).metadata.preprocess
    with open_reference(canonical) as reference, open_onnx(folder, artifact) as session:
        feeds = [{"image": feed_from_pixels(f[None], reference.artifact.inputs[0], preprocess)} for f in frames]
        for frame, feed in zip(frames, feeds, strict=True):
            expected = reference.codes(feed)
            forced = session.codes({"image": frame[None]}, force=expected)
            assert set(forced) == set(expected)
            for name, codes in expected.items():
                inexact = name == f"{ISLAND}.q"  # the last bits of a float are the runtime's own
                assert np.abs(forced[name].astype(np.int16) - codes).max() <= int(inexact), name
                assert np.mean(forced[name] == codes) >= 0.999, name
            ours, theirs = session.infer({"image": frame[None]})["logits"], reference.infer(feed)["logits"]
            assert np.unique(theirs).size > 1 or canonical.stem == "GlobalMaxPool"
            assert np.mean(ours == theirs) >= (0.99 if load_graph(canonical).islands else 1)
        return session.census()


FLOAT_PIECES = {"Gelu", "Tanh", "HardSwish", "deconv2", "deconv4", "global max", "linear 2", "linear 4"}
"""Where the runtime lacks an integer kernel and computes the op in float between its Q/DQ."""


@pytest.mark.parametrize("name", PIECES)
def test_every_int8_op_is_bit_exact(name: str, tmp_path: Path) -> None:
    census = compare_with_reference(write_piece(tmp_path / f"{name}.onnx", PIECES[name]), tmp_path)
    floats = {layer.op for layer in census.layers if layer.precision != "int8"}
    assert bool(floats) == (name in FLOAT_PIECES)
    assert "Conv" not in floats
    assert not any("island" in layer.unit for layer in census.layers)


@pytest.mark.parametrize("name", ISLANDS)
def test_float_islands_stay_float(name: str, tmp_path: Path) -> None:
    census = compare_with_reference(write_piece(tmp_path / f"{name}.onnx", ISLANDS[name]), tmp_path)
    inside = [layer for layer in census.layers if layer.name.startswith(ISLAND)]
    assert inside
    assert all(layer.unit.endswith(f", float island {ISLAND}: {REASON}") for layer in inside)
    integer = [layer.unit.split(",")[0] for layer in inside if layer.precision == "int8"]
    products = "CPU com.microsoft.MatMulIntegerToFloat"  # of two dequantized tensors: exact, and nothing is rounded
    assert integer == ([products] if name == "attention" else [])
    assert all(layer.precision == "int8" for layer in census.layers if layer not in inside)


@pytest.mark.parametrize("name", [*PIECES, *ISLANDS])
def test_every_op_runs_in_float(name: str, tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "piece.onnx", {**PIECES, **ISLANDS}[name])
    artifact = lower(canonical, Precision.FP32, into=tmp_path)
    preprocess = load_graph(canonical).metadata.preprocess
    with open_reference(canonical, Precision.FP32) as twin, open_onnx(tmp_path, artifact) as session:
        feed = {"image": feed_from_pixels(make_frames(1, SIZE), artifact.inputs[0], preprocess)}
        np.testing.assert_allclose(session.infer(feed)["logits"], twin.infer(feed)["logits"], atol=2e-5)
        assert session.census().by_precision().keys() == {"fp32"}


def test_a_nearest_resize_repeats_rows_and_columns_apart(tmp_path: Path) -> None:
    graph = OneOp()
    graph.constants["scales"] = np.array([1, 1, 2, 3], np.float32)
    nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": "nearest"}
    canonical = graph.op("Resize", "wide", [graph.last, "", "scales"], 1 / 64, **nearest).write(tmp_path / "c.onnx")
    artifact = lower(canonical, Precision.INT8, into=tmp_path)
    pixels = make_frames(1, 8)
    with open_onnx(tmp_path, artifact) as session:
        logits = session.infer({"image": pixels})["logits"]
    expected = ((pixels.astype(np.float32) - 128) / 64).transpose(0, 3, 1, 2).repeat(2, axis=2).repeat(3, axis=3)
    assert np.array_equal(logits, expected)
    assert {n.op for n in load_graph(tmp_path / artifact.path).nodes} == {
        "Transpose", "Concat", "Reshape", "DequantizeLinear"
    }  # fmt: skip
