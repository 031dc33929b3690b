"""Pieces of larger networks in an INT8 file, float islands first: codes, the float numbers in front of the quantizer,
masks on all three sets of kernels, census, and what the file holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from island_graphs import ISLAND, ISLANDS, PIECES, REASON, SIZE, write_piece
from numpy.typing import NDArray
from onnx import helper
from tiny_graph import frames_u8

from edge_unet.canonical import load_graph
from edge_unet.core.artifact import Artifact, Codes
from edge_unet.core.errors import GraphError
from edge_unet.core.spec import Precision, PreprocessSpec, QuantScheme, feed_from_pixels, logits_from_output
from edge_unet.measure.readback import compare_integers
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.tflite import ANDROID, open_session
from edge_unet.targets.tflite.interpreter import Kernels
from edge_unet.targets.tflite.lower import lower
from edge_unet.targets.tflite.model_file import read_model
from edge_unet.targets.tflite.stepper import Stepper

PREPROCESS = PreprocessSpec(height=SIZE, width=SIZE)
FRAMES = frames_u8(2, SIZE, seed=5)
REAL = PREPROCESS.normalize(FRAMES).transpose(0, 3, 1, 2)  # (N, C, H, W)
EXACT = {"Gelu", "Sigmoid", "Tanh", "conv7", "shift", "GlobalMaxPool", "Concat 6", "nearest 8", "Slice"}
"""Pieces whose own op gives the reference's codes to the last one; the others round once more or elsewhere: 1 code."""
OUTSIDE = {"Gelu": {"GELU"}, "scan": {"REVERSE_V2", "BROADCAST_TO"}}
"""Ops that XNNPACK does not take; everything else of every piece it does."""


@dataclass(frozen=True)
class Lowered:
    name: str
    canonical: Path
    folder: Path
    int8: Artifact
    reference: Codes


@pytest.fixture(scope="module", params=[*PIECES, *ISLANDS])
def lowered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    folder = tmp_path_factory.mktemp("piece")
    canonical = write_piece(folder / "canonical.onnx", {**PIECES, **ISLANDS}[request.param])
    with open_reference(canonical) as reference:
        codes = reference.codes({"image": REAL[:1]})
    return Lowered(request.param, canonical, folder, ANDROID.lower(canonical, Precision.INT8, into=folder), codes)


def _own(artifact: Artifact, frame: int = 0) -> dict[str, NDArray[np.int8]]:
    return {"image": feed_from_pixels(FRAMES[frame : frame + 1], artifact.inputs[0], PREPROCESS)}


def _float_result(canonical: Path) -> NDArray[np.float32]:
    """What the island gives in the reference, in front of its quantizer."""
    model = onnx.load(canonical)
    model.graph.output.append(helper.make_tensor_value_info(ISLAND, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([ISLAND], {"image": REAL[:1]})[0])


def test_codes_are_the_reference_s_where_every_tensor_before_is(lowered: Lowered) -> None:
    with open_session(lowered.folder, lowered.int8) as session:
        forced = session.codes(_own(lowered.int8), force=lowered.reference)
        free = session.codes(_own(lowered.int8))
        again = session.codes(_own(lowered.int8), force=free)
    assert set(forced) == set(lowered.reference)
    for name, codes in lowered.reference.items():
        off = np.abs(forced[name].astype(int) - codes)
        assert forced[name].shape == codes.shape
        assert off.max() <= 1, name
        if name in ("middle.q", f"{ISLAND}.q") and (lowered.name in EXACT or lowered.name in ISLANDS):
            assert not off.any(), name
        np.testing.assert_array_equal(again[name], free[name], err_msg=name)


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
def test_logits_stay_near_the_reference(lowered: Lowered, kernels: Kernels) -> None:
    """Built-in kernels round ties away from zero in every layer, XNNPACK to even like the reference: 3 steps and 2."""
    limit = 2 if kernels == "xnnpack" else 3
    with (
        open_reference(lowered.canonical) as reference,
        open_session(lowered.folder, lowered.int8, kernels=kernels) as session,
    ):
        for frame in range(len(FRAMES)):
            expected = reference.infer({"image": REAL[frame : frame + 1]})["logits"]
            output = session.infer(_own(lowered.int8, frame))["logits"]
            received = logits_from_output(output, lowered.int8.outputs[0])
            if lowered.name != "GlobalMaxPool":  # one value per channel: all pixels are alike
                assert np.ptp(expected) > 10 / 16, "the case must use its range, else it proves nothing"
            assert np.abs(received - expected).max() <= limit / 16


@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
def test_the_float_file_is_the_float_twin(lowered: Lowered, kernels: Kernels, tmp_path: Path) -> None:
    artifact = ANDROID.lower(lowered.canonical, Precision.FP32, into=tmp_path)
    with (
        open_reference(lowered.canonical, Precision.FP32) as reference,
        open_session(tmp_path, artifact, kernels=kernels) as session,
    ):
        expected = reference.infer({"image": REAL[:1]})["logits"]
        own = {"image": feed_from_pixels(FRAMES[:1], artifact.inputs[0], PREPROCESS)}
        received = logits_from_output(session.infer(own)["logits"], artifact.outputs[0])
        assert session.census().int8_layers == 0
    np.testing.assert_allclose(received, expected, atol=2e-5, rtol=1e-5)


def test_scales_and_weights_read_back(lowered: Lowered) -> None:
    read = ANDROID.read_back(lowered.folder, lowered.int8)
    integers = compare_integers(load_graph(lowered.canonical), read, QuantScheme.PORTABLE)
    assert integers.offenders == ()
    assert not read.absent
    assert set(read.activations) == set(lowered.reference)


IN_FLOAT = {
    "Sigmoid": "LOGISTIC",
    "channel max": "LOGISTIC",
    "Tanh": "TANH",
    "linear 2": "RESIZE_BILINEAR",
    "linear 4": "RESIZE_BILINEAR",
}
"""Pieces whose op has no int8 kernel with the reference's codes."""


def test_the_census_counts_float_ops_inside_islands_only(lowered: Lowered) -> None:
    with open_session(lowered.folder, lowered.int8) as session:
        census = session.census()
    assert {layer.op for layer in census.layers if layer.unit != "XNNPACK"} == OUTSIDE.get(lowered.name, set())
    floats = [layer for layer in census.layers if layer.precision != "int8"]
    notes = [note for note in lowered.int8.notes if note.startswith(f"{ISLAND}: ")]
    if lowered.name in PIECES:
        by_rule = IN_FLOAT.get(lowered.name)
        assert [layer.op for layer in floats] == (["DEQUANTIZE", by_rule, "QUANTIZE"] if by_rule else [])
        assert any("computed in float32" in note for note in lowered.int8.notes) == bool(by_rule)
        assert notes == []
        return
    assert all(layer.name.startswith(ISLAND) for layer in floats)
    assert notes == [f"{ISLAND}: {len(floats) - 1} float32 ops in a declared island: {REASON}"]  # QUANTIZE is the last
    assert census.source.endswith(f"; {len(floats) - 1} float ops in 1 declared island")
    assert {layer.precision for layer in census.layers if layer.op == "CONV_2D"} == {"int8"}


@pytest.mark.parametrize("name", ISLANDS)
def test_an_island_computes_the_reference_s_floats(name: str, tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "canonical.onnx", ISLANDS[name])
    artifact = ANDROID.lower(canonical, Precision.INT8, into=tmp_path)
    file = read_model(tmp_path, artifact)
    with open_reference(canonical) as reference:
        codes = reference.codes({"image": REAL[:1]})
    held = file.canonical[f"{ISLAND}.q"]
    exit_ = next(op for op in file.operators if held.index in [int(i) for i in op.outputs])
    assert file.code(exit_) == "QUANTIZE"
    forced = {place.index: codes[known].transpose(place.order) for known, place in file.canonical.items()}
    arrays = Stepper(file, "reference").run({file.inputs["image"]: _own(artifact)["image"]}, forced)
    received = arrays[int(exit_.inputs[0])]
    expected = _float_result(canonical).transpose(held.order)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, atol=1e-5 * np.abs(expected).max(), rtol=1e-5)


@pytest.mark.parametrize("name", ISLANDS)
def test_an_island_reads_every_int8_tensor_through_one_dequantize(name: str, tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "canonical.onnx", ISLANDS[name])
    file = read_model(tmp_path, ANDROID.lower(canonical, Precision.INT8, into=tmp_path))
    read = [int(op.inputs[0]) for op in file.operators if file.code(op) == "DEQUANTIZE"]
    assert len(read) == len(set(read)) == (3 if name == "attention" else 1)
    assert sum(file.code(op) == "QUANTIZE" for op in file.operators) == 1


def test_layer_normalization_between_transposes_moves_nothing(tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "canonical.onnx", ISLANDS["LayerNormalization"])
    for precision in ANDROID.precisions:
        file = read_model(tmp_path, ANDROID.lower(canonical, precision, into=tmp_path))
        codes = [file.code(op) for op in file.operators]
        assert not {"TRANSPOSE", "RESHAPE"} & set(codes)
        assert codes.count("MEAN") == 2


def test_attention_moves_only_what_its_products_need(tmp_path: Path) -> None:
    """Scores are read transposed by BATCH_MATMUL; images become tokens by RESHAPE."""
    canonical = write_piece(tmp_path / "canonical.onnx", ISLANDS["attention"])
    file = read_model(tmp_path, ANDROID.lower(canonical, Precision.INT8, into=tmp_path))
    codes = [file.code(op) for op in file.operators]
    assert codes.count("BATCH_MATMUL") == 2
    assert codes.count("TRANSPOSE") <= 4


def test_versions_and_the_oldest_runtime(tmp_path: Path) -> None:
    """tensorflow/lite/tools/versioning: int8 GELU is 2, ranks beyond 4 have versions of their own."""

    def versions(name: str) -> tuple[set[tuple[str, int]], bytes]:
        canonical = write_piece(tmp_path / "canonical.onnx", {**PIECES, **ISLANDS}[name])
        file = read_model(tmp_path, ANDROID.lower(canonical, Precision.INT8, into=tmp_path))
        entries = {entry.name.decode(): bytes(file.model.buffers[entry.buffer].data) for entry in file.model.metadata}
        found = {(file.code(op), int(file.model.operatorCodes[op.opcodeIndex].version)) for op in file.operators}
        return found, entries["min_runtime_version"].rstrip(b"\0")

    found, runtime = versions("Gelu")
    assert ("GELU", 2) in found
    assert runtime == b"2.9.0"
    found, runtime = versions("global max")
    assert ("REDUCE_MAX", 2) in found
    assert runtime == b"1.14.0"
    found, runtime = versions("scan")
    assert {("BROADCAST_TO", 2), ("REVERSE_V2", 1), ("EXP", 1), ("SUM", 1), ("DEQUANTIZE", 2)} <= found
    assert runtime == b"2.5.0"
    found, _ = versions("rearranged")
    assert {("TRANSPOSE", 4), ("BATCH_MATMUL", 1), ("PAD", 1)} <= found  # a transposition of rank 6, joined to 5
    assert ("TRANSPOSE", 6) not in found


def test_nearest_as_an_op_for_every_factor(tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "canonical.onnx", PIECES["nearest 8"])
    copies = ANDROID.lower(canonical, Precision.INT8, into=tmp_path)
    with open_session(tmp_path, copies) as session:
        expected = session.infer(_own(copies))["logits"]
    single = lower(canonical, Precision.INT8, into=tmp_path, target="android", nearest="resize")
    assert single.sha256 != copies.sha256
    with open_session(tmp_path, single) as session:
        np.testing.assert_array_equal(session.infer(_own(single))["logits"], expected)


def test_an_int8_op_that_reads_inside_an_island_is_refused(tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "canonical.onnx", ISLANDS["SiLU"])
    model = onnx.load(canonical)
    reader = next(node for node in model.graph.node if node.name == "after")
    reader.input[0] = ISLAND
    canonical.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match=f"node 'after' .Conv.: input '{ISLAND}' is float"):
        ANDROID.lower(canonical, Precision.INT8, into=tmp_path)


def test_an_undeclared_island_is_refused(tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "canonical.onnx", ISLANDS["elementwise"])
    model = onnx.load(canonical)
    for entry in model.metadata_props:
        entry.value = entry.value.replace(f'"{ISLAND}":', '"elsewhere":')
    canonical.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match="is not quantized"):
        ANDROID.lower(canonical, Precision.INT8, into=tmp_path)
