"""The target `mcu` on the tiny networks: integers only, bit by bit what the reference kernels give, arena, census."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from island_graphs import transformer, write_piece
from numpy.typing import NDArray
from one_op_graph import OneOp

from edge_unet.canonical import CanonicalGraph, load_graph
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import ArtifactError, GraphError, UsageError
from edge_unet.core.protocols import LayerSession, ModelledSession, Session
from edge_unet.core.spec import Precision, PreprocessSpec, feed_from_pixels, logits_from_output, mask_from_logits
from edge_unet.targets.mcu import TARGET, vela
from edge_unet.targets.mcu.micro import STEP, start
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.tflite import open_reference_kernels
from edge_unet.targets.tflite.model_file import read_model
from edge_unet.targets.tflite.writer import schema

pytest.importorskip("tflite_micro", reason="tflite-micro is not installed (extra mcu)")

PREPROCESS = PreprocessSpec(height=64, width=64)


@dataclass(frozen=True)
class Lowered:
    canonical: Path
    graph: CanonicalGraph
    folder: Path
    artifact: Artifact


@pytest.fixture(scope="module", params=["binary", "multiclass"])
def lowered(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
    tiny_canonical: Path, tiny_canonical_multiclass: Path,
) -> Lowered:  # fmt: skip
    canonical = tiny_canonical if request.param == "binary" else tiny_canonical_multiclass
    folder = tmp_path_factory.mktemp("mcu")
    artifact = TARGET.lower(canonical, Precision.INT8, into=folder)
    return Lowered(canonical, load_graph(canonical), folder, artifact)


def raw(session: Session, frame: NDArray[np.uint8]) -> NDArray[np.int8]:
    spec = session.artifact.inputs[0]
    return np.asarray(session.infer({spec.name: feed_from_pixels(frame[None], spec, PREPROCESS)})["logits"])


def logits(session: Session, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    return logits_from_output(raw(session, frame), session.artifact.outputs[0])


def reference_logits(lowered: Lowered, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    real = PREPROCESS.normalize(frames).transpose(0, 3, 1, 2)  # (N, C, H, W)
    with open_reference(lowered.canonical) as reference:
        found = [reference.infer({"image": np.ascontiguousarray(image[None])})["logits"] for image in real]
    return np.concatenate(found)  # (N, classes, H, W)


def test_the_file_holds_integers_only(lowered: Lowered) -> None:
    kinds = schema().TensorType
    file = read_model(lowered.folder, lowered.artifact)
    assert {tensor.type for tensor in file.tensors} <= {kinds.INT8, kinds.INT32}
    assert not {"DEQUANTIZE", "RESIZE_BILINEAR"} & {file.code(operator) for operator in file.operators}


def test_tflite_micro_is_bit_exact_with_the_reference_kernels(lowered: Lowered, frames_u8: NDArray[np.uint8]) -> None:
    with (
        TARGET.open(lowered.folder, lowered.artifact) as micro,
        open_reference_kernels(lowered.folder, lowered.artifact) as kernels,
    ):
        for frame in frames_u8:
            np.testing.assert_array_equal(raw(micro, frame), raw(kernels, frame))
        feeds = {"image": feed_from_pixels(frames_u8[:1], lowered.artifact.inputs[0], PREPROCESS)}
        assert isinstance(micro, LayerSession)
        ours, theirs = micro.codes(feeds), kernels.codes(feeds)
    assert set(ours) == set(theirs) == set(lowered.graph.activations)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_the_same_file_on_kernels_that_tie_to_even_gives_the_reference_s_mask(
    lowered: Lowered, frames_u8: NDArray[np.uint8]
) -> None:
    """So what TFLite Micro gives otherwise is its rounding, not the lowering."""
    expected = reference_logits(lowered, frames_u8)
    with TARGET.open(lowered.folder, lowered.artifact) as micro:
        assert isinstance(micro, ModelledSession)
        (even,) = micro.other_models().values()
        found = np.concatenate([logits(even, frame) for frame in frames_u8])
    assert np.abs(found - expected).max() <= 1 / 16
    if expected.shape[1] == 1:  # of two classes at a tie argmax takes the first, whatever the rounding
        np.testing.assert_array_equal(mask_from_logits(found), mask_from_logits(expected))
    assert (mask_from_logits(found) == mask_from_logits(expected)).mean() > 0.995


def test_every_tensor_is_within_one_code_of_the_reference_s(lowered: Lowered, frames_u8: NDArray[np.uint8]) -> None:
    real = PREPROCESS.normalize(frames_u8[:1]).transpose(0, 3, 1, 2)
    with open_reference(lowered.canonical) as reference, TARGET.open(lowered.folder, lowered.artifact) as micro:
        assert isinstance(reference, LayerSession)
        assert isinstance(micro, LayerSession)
        codes = reference.codes({"image": np.ascontiguousarray(real)})
        feeds = {"image": feed_from_pixels(frames_u8[:1], lowered.artifact.inputs[0], PREPROCESS)}
        forced = micro.codes(feeds, force=codes)
        free = micro.codes(feeds)
        again = micro.codes(feeds, force=free)
        with pytest.raises(UsageError, match="nowhere"):
            micro.codes(feeds, force={"nowhere": np.zeros((1, 1, 1, 1), np.int8)})
    for name, expected in codes.items():
        difference = np.abs(forced[name].astype(int) - expected.astype(int))
        assert difference.max() <= 1, name
        assert (difference != 0).mean() < 0.2, name
        np.testing.assert_array_equal(again[name], free[name], err_msg=name)


def test_the_arena_is_the_smallest_that_works(lowered: Lowered) -> None:
    (note,) = (note for note in lowered.artifact.notes if note.startswith("arena of TFLite Micro"))
    arena = int(note.split(": ")[1].split(" ")[0])
    model = (lowered.folder / lowered.artifact.path).read_bytes()
    start(model, arena_bytes=arena)
    with pytest.raises(ArtifactError, match="cannot load the model with an arena of"):
        start(model, arena_bytes=arena - STEP)


def test_the_census_names_the_npu_and_what_it_rests_on(lowered: Lowered, tmp_path: Path) -> None:
    if vela.command() is None:
        pytest.skip("vela is not installed (extra mcu)")
    with TARGET.open(lowered.folder, lowered.artifact) as session:
        census, said = session.census(), session.runtime
    assert {layer.unit for layer in census.layers} == {"Ethos-U"}
    assert census.float_layers == 0
    assert census.source.startswith("placement by Vela")
    assert said.endswith("no microcontroller")
    shutil.copyfile(lowered.folder / lowered.artifact.path, tmp_path / lowered.artifact.path)
    with TARGET.open(tmp_path, lowered.artifact) as session:  # lowered where Vela was missing
        assert {layer.unit for layer in session.census().layers} == {"TFLite Micro kernel"}


def test_a_float_island_is_refused_by_name_and_reason(tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "canonical.onnx", transformer)
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(GraphError, match=r"node 'middle\.norm.*float island middle\.norm .*integers only"):
        TARGET.lower(canonical, Precision.INT8, into=into)
    assert list(into.iterdir()) == []


@pytest.mark.parametrize(
    ("op", "reason"), [("Div", "no int8 kernel divides"), ("LayerNormalization", "mean and variance need float32")]
)
def test_an_op_without_an_integer_form_is_refused(op: str, reason: str, tmp_path: Path) -> None:
    graph = OneOp()
    graph.constants["two"] = np.array(2, np.float32) if op == "Div" else np.ones(8, np.float32)
    canonical = graph.op(op, "strange", [graph.last, "two"], 1 / 16).write(tmp_path / "canonical.onnx")
    into = tmp_path / "into"
    into.mkdir()
    with pytest.raises(GraphError, match=rf"node 'strange' \({op}\): .*{reason}.*target android"):
        TARGET.lower(canonical, Precision.INT8, into=into)
    assert list(into.iterdir()) == []
    assert op not in TARGET.ops
