"""What every target owes to everything above it, for each target of the registry in each of its precisions."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from blocked import run_without
from island_graphs import BLOCK, REASON, SIZE, transformer, write_piece
from numpy.typing import NDArray
from onnx import helper
from tiny_graph import frames_u8 as make_frames

from edge_unet.canonical import CanonicalGraph, load_graph, strip_qdq
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import EdgeUnetError, GraphError, UsageError
from edge_unet.core.files import bytes_of, sha256_of
from edge_unet.core.protocols import Session, Target
from edge_unet.core.spec import Precision, feed_from_pixels, logits_from_output, mask_from_logits
from edge_unet.measure.readback import compare_integers
from edge_unet.targets.onnxruntime import sessions
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.openvino.runtime import has_bf16
from edge_unet.targets.registry import TARGETS

Logits = list[NDArray[np.float32]]
MODULES = {
    "openvino": "openvino",
    "tflite": "ai_edge_litert",
    "coreml": "coremltools",
    "onnx": "onnxruntime",
    "tensorrt": "onnxruntime",
    "mcu": "tflite_micro",
}
"""Extra -> the package without which its target cannot lower or cannot open."""
HEAVY = (
    "torch", "openvino", "coremltools", "ai_edge_litert", "onnxruntime", "tensorrt", "tensorflow",
    "tflite_micro", "ethosu",
)  # fmt: skip
DATA_SUFFIXES = {".xml", ".bin", ".onnx", ".json", ".mlmodel", ".tflite"}

BESIDE = {"ethos-u"}
"""What may lie beside an artifact: files made from it, hashed by the bundle's manifest."""
INTEGERS_ONLY = ("mcu",)
"""Targets that refuse float islands instead of keeping them in float."""

CASES = [(name, precision) for name, target in TARGETS.items() for precision in target.precisions]


@dataclass(frozen=True)
class Case:
    """One target in one precision, lowered once."""

    target: Target
    canonical: Path
    graph: CanonicalGraph
    folder: Path
    artifact: Artifact


def need(target: Target) -> None:
    """Skip, visibly, where the target's toolchain is not installed."""
    if importlib.util.find_spec(MODULES[target.extra]) is None:
        pytest.skip(f"{MODULES[target.extra]} is not installed (extra {target.extra})")


def logits_of(session: Session, graph: CanonicalGraph, frames: NDArray[np.uint8]) -> Logits:
    source, sink = session.artifact.inputs[0], session.artifact.outputs[0]
    preprocess = graph.metadata.preprocess
    fed = [{source.name: feed_from_pixels(frame[None], source, preprocess)} for frame in frames]
    return [logits_from_output(session.infer(feeds)[sink.name], sink) for feeds in fed]


def expected_logits(case: Case, frames: NDArray[np.uint8]) -> Logits:
    """The reference's for INT8, those of the float twin otherwise."""
    if case.artifact.precision is Precision.INT8:
        with open_reference(case.canonical) as reference:
            return logits_of(reference, case.graph, frames)
    twin = sessions.start(strip_qdq(case.graph).SerializeToString(), optimize=False)
    real = case.graph.metadata.preprocess.normalize(frames).transpose(0, 3, 1, 2)  # (N, C, H, W)
    return [twin.run(["logits"], {"image": np.ascontiguousarray(image[None])})[0] for image in real]


def use(target: Target, folder: Path, artifact: Artifact) -> None:
    """Everything verify does with the files of an artifact."""
    with target.open(folder, artifact):
        pass
    target.read_back(folder, artifact)


def files_of(folder: Path, artifact: Artifact) -> list[Path]:
    """The data files of an artifact (not the kit's programs), relative to its folder."""
    path = folder / artifact.path
    found = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [file.relative_to(folder) for file in found if file.suffix in DATA_SUFFIXES]


def use_bf16(case: Case, frames: NDArray[np.uint8]) -> tuple[NDArray[np.float32], set[str]]:
    with case.target.open(case.folder, case.artifact, bf16=True) as session:
        return logits_of(session, case.graph, frames[:1])[0], set(session.census().by_precision())


@pytest.mark.parametrize("case", CASES, ids=[f"{name}-{p.value}" for name, p in CASES], indirect=True, scope="class")
class TestEveryTarget:
    @pytest.fixture(scope="class")
    def case(
        self, request: pytest.FixtureRequest, tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Case:
        name, precision = request.param
        target = TARGETS[name]
        need(target)
        folder = tmp_path_factory.mktemp("contract")
        artifact = target.lower(tiny_canonical, precision, into=folder)
        return Case(target, tiny_canonical, load_graph(tiny_canonical), folder, artifact)

    def test_the_artifact_tells_the_truth(self, case: Case) -> None:
        path = case.folder / case.artifact.path
        assert not Path(case.artifact.path).is_absolute()
        assert path.exists()
        assert {entry.name for entry in case.folder.iterdir()} - BESIDE == {case.artifact.path}
        assert case.artifact.sha256 == sha256_of(path)
        assert case.artifact.bytes == bytes_of(path) > 1000
        assert case.artifact.target == case.target.name
        assert case.artifact.parent_sha256 == sha256_of(case.canonical)
        assert case.artifact.toolchain
        assert all(value[0].isdigit() for value in case.artifact.toolchain.values())
        assert (len(case.artifact.inputs), len(case.artifact.outputs)) == (1, 1)

    def test_the_same_input_gives_the_same_bytes(self, case: Case, tmp_path: Path) -> None:
        again = case.target.lower(case.canonical, case.artifact.precision, into=tmp_path)
        assert again == case.artifact
        for file in files_of(case.folder, case.artifact):
            assert (tmp_path / file).read_bytes() == (case.folder / file).read_bytes(), file

    def test_opening_and_running_change_nothing_on_disk(self, case: Case, frames_u8: NDArray[np.uint8]) -> None:
        with case.target.open(case.folder, case.artifact) as session:
            logits_of(session, case.graph, frames_u8[:1])
        case.target.read_back(case.folder, case.artifact)
        assert sha256_of(case.folder / case.artifact.path) == case.artifact.sha256

    def test_it_runs_as_its_specs_say(self, case: Case, frames_u8: NDArray[np.uint8]) -> None:
        with case.target.open(case.folder, case.artifact) as session:
            source, sink = session.artifact.inputs[0], session.artifact.outputs[0]
            feed = feed_from_pixels(frames_u8[:1], source, case.graph.metadata.preprocess)
            assert (feed.shape, feed.dtype) == (source.shape, np.dtype(source.dtype))
            outputs = session.infer({source.name: feed})
            assert session.artifact == case.artifact
            assert any(character.isdigit() for character in session.runtime)
            with pytest.raises(UsageError, match=str(source.dtype)):
                session.infer({source.name: feed.astype(np.float64)})
        assert list(outputs) == [sink.name]
        raw = outputs[sink.name]
        assert (raw.shape, raw.dtype) == (sink.shape, np.dtype(sink.dtype))
        assert logits_from_output(raw, sink).shape == case.graph.shapes["logits"]

    def test_masks_agree(self, case: Case, frames_u8: NDArray[np.uint8]) -> None:
        """The tiny network is untrained and many pixels lie near a tie: the bounds are those of the targets' own
        tests, which say where each comes from. Pixels further than 4 steps from a tie must agree in all."""
        with case.target.open(case.folder, case.artifact) as session:
            ours = np.concatenate(logits_of(session, case.graph, frames_u8))
        theirs = np.concatenate(expected_logits(case, frames_u8))
        equal = mask_from_logits(ours) == mask_from_logits(theirs)
        assert 0.05 < mask_from_logits(theirs).mean() < 0.95  # both classes are there to be confused
        assert equal.mean() >= 0.97
        assert equal[np.abs(theirs[:, 0]) > 4 / 16].all()

    def test_the_census_counts_layers(self, case: Case) -> None:
        with case.target.open(case.folder, case.artifact) as session:
            census = session.census()
        assert census.layers
        assert census.source
        assert all(layer.name and layer.op and layer.unit for layer in census.layers)
        if case.artifact.precision is Precision.INT8:
            assert census.int8_layers > census.float_layers
        else:
            assert census.int8_layers == 0

    def test_integers_read_back_are_the_canonical_ones(self, case: Case) -> None:
        read = case.target.read_back(case.folder, case.artifact)
        if case.artifact.precision is not Precision.INT8:
            assert (dict(read.activations), dict(read.weights)) == ({}, {})
            return
        integers = compare_integers(case.graph, read, case.target.scheme)
        assert integers.offenders == ()
        assert integers.payloads_compared == len(case.graph.weights)
        absent = len(read.absent)
        assert integers.scales_compared == len(case.graph.activations) - absent + len(case.graph.weights)
        assert absent <= int(case.target.float_output)

    def test_damage_is_one_clear_error(self, case: Case, tmp_path: Path) -> None:
        for number, file in enumerate(files_of(case.folder, case.artifact)):
            copy = tmp_path / str(number)
            shutil.copytree(case.folder, copy)
            whole = (copy / file).read_bytes()
            (copy / file).write_bytes(whole[: len(whole) // 2])
            with pytest.raises(EdgeUnetError) as caught:
                use(case.target, copy, case.artifact)
            assert caught.value.exit_code in (1, 2)
            assert "\n" not in str(caught.value)
            assert file.name in str(caught.value) or case.artifact.path in str(caught.value)

    def test_bf16_is_refused_or_works(self, case: Case, frames_u8: NDArray[np.uint8]) -> None:
        supported = case.target.name == "cpu" and case.artifact.precision is Precision.FP32
        if not supported or not has_bf16():
            with pytest.raises(UsageError, match=r"bf16|bfloat16"):
                use_bf16(case, frames_u8)
            return
        logits, precisions = use_bf16(case, frames_u8)
        assert "bf16" in precisions
        assert np.isfinite(logits).all()

    def test_an_unknown_op_is_named(self, case: Case, tmp_path: Path) -> None:
        model = onnx.load(case.canonical)
        tail = next(n for n in model.graph.node if n.output[0] == "logits")
        tail.output[0] = "before"
        model.graph.node.append(helper.make_node("Celu", ["before"], ["logits"], "strange"))
        path = tmp_path / "canonical.onnx"
        onnx.save(model, path)
        assert "Celu" not in case.target.ops
        with pytest.raises(GraphError, match="strange") as caught:
            case.target.lower(path, case.artifact.precision, into=tmp_path)
        assert "Celu" in str(caught.value)


@pytest.mark.parametrize(("name", "precision"), CASES, ids=[f"{name}-{p.value}" for name, p in CASES])
def test_a_block_with_float_islands(name: str, precision: Precision, tmp_path: Path) -> None:
    """LayerNormalization and attention stay float, named with their reason; the convolutions and Gelu do not."""
    target = TARGETS[name]
    need(target)
    canonical = write_piece(tmp_path / "canonical.onnx", transformer)
    graph, into, frames = load_graph(canonical), tmp_path / "into", make_frames(4, SIZE, seed=7)
    into.mkdir()
    if name in INTEGERS_ONLY:
        with pytest.raises(GraphError, match=f"float island .*{REASON}"):
            target.lower(canonical, precision, into=into)
        assert list(into.iterdir()) == []
        return
    artifact = target.lower(canonical, precision, into=into)
    case = Case(target, canonical, graph, into, artifact)
    with target.open(into, artifact) as session:
        ours, census = np.concatenate(logits_of(session, graph, frames)), session.census()
    theirs = np.concatenate(expected_logits(case, frames))
    equal = mask_from_logits(ours) == mask_from_logits(theirs)
    assert 0.05 < mask_from_logits(theirs).mean() < 0.95
    assert equal.mean() >= 0.97
    assert equal[np.abs(theirs[:, 0]) > 4 / 16].all()
    if precision is not Precision.INT8:
        assert census.int8_layers == 0
        return
    told = [*(layer.unit for layer in census.layers), *artifact.notes]  # a delegate hides its layers from a census
    assert all(any(path in text and REASON in text for text in told) for path in BLOCK)
    inside = [layer for layer in census.layers if REASON in layer.unit]
    assert {layer.op for layer in inside if layer.precision == "int8"} <= {"MatMul"}  # of two int8 tensors: exact
    assert census.int8_layers > 0
    integers = compare_integers(graph, target.read_back(into, artifact), target.scheme)
    assert integers.offenders == ()
    assert integers.payloads_compared == len(graph.weights)


@pytest.mark.parametrize("name", TARGETS)
def test_a_precision_that_is_not_offered(name: str, tiny_canonical: Path, tmp_path: Path) -> None:
    target = TARGETS[name]
    need(target)
    for precision in set(Precision) - set(target.precisions):
        with pytest.raises(UsageError, match=precision.value) as caught:
            target.lower(tiny_canonical, precision, into=tmp_path)
        assert all(offered.value in str(caught.value) for offered in target.precisions)
    assert list(tmp_path.iterdir()) == []


USE = """
import json, sys
from pathlib import Path

from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import EdgeUnetError
from edge_unet.core.spec import Precision
from edge_unet.targets.registry import TARGETS

name, canonical, folder, artifact, into = sys.argv[1:]
target, errors = TARGETS[name], []
try:
    target.lower(Path(canonical), Precision.INT8, into=Path(into))
except EdgeUnetError as error:
    errors.append([type(error).__name__, error.exit_code, str(error)])
left = sorted(p.name for p in Path(into).iterdir()) if errors else []
try:
    with target.open(Path(folder), Artifact.model_validate_json(artifact)):
        pass
except EdgeUnetError as error:
    errors.append([type(error).__name__, error.exit_code, str(error)])
print(json.dumps({"errors": errors, "left": left}))
"""


@pytest.mark.parametrize("name", TARGETS)
def test_a_missing_toolchain_names_the_extra(name: str, tiny_canonical: Path, tmp_path: Path) -> None:
    target = TARGETS[name]
    need(target)
    made, into = tmp_path / "made", tmp_path / "into"
    made.mkdir()
    into.mkdir()
    artifact = target.lower(tiny_canonical, Precision.INT8, into=made)
    arguments = (name, str(tiny_canonical), str(made), artifact.model_dump_json(), str(into))
    done = run_without([MODULES[target.extra]], USE, *arguments)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["errors"]
    assert answer["left"] == []
    for kind, code, message in answer["errors"]:
        assert (kind, code) == ("MissingBackendError", 5)
        assert MODULES[target.extra] in message
        assert f"edge-unet[{target.extra}]" in message or "edge-unet[onnx]" in message


def test_importing_the_targets_loads_no_toolchain() -> None:
    """And they import where none of them, nor torch, is installed."""
    code = "import sys, json, edge_unet.targets.registry; print(json.dumps(sorted(sys.modules)))"
    free = run_without([], code)
    assert free.returncode == 0, free.stderr
    loaded = {name.split(".")[0] for name in json.loads(free.stdout)}
    assert "edge_unet" in loaded
    assert not loaded & set(HEAVY)
    assert run_without(HEAVY, code).returncode == 0


def test_targets_say_what_they_are() -> None:
    assert list(TARGETS) == ["cpu", "android", "embedded-linux", "ios", "jetson", "onnx", "mcu"]
    for name, target in TARGETS.items():
        assert target.name == name
        assert Precision.INT8 in target.precisions
        assert {"Conv", "QuantizeLinear", "DequantizeLinear", "Resize", "Concat", "Add"} <= target.ops
        assert target.extra in MODULES
