"""Every runtime's profiler on a real artifact: every convolution under its canonical name, no file left behind."""

from __future__ import annotations

import struct
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from measure.planted import INTERPRETED
from numpy.typing import NDArray

from edge_unet.canonical import CanonicalGraph, load_graph
from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import UsageError
from edge_unet.core.limits import LayerTimes
from edge_unet.core.spec import Precision, Tensors, feed_from_pixels
from edge_unet.measure.layer_times import PROFILERS, layer_times
from edge_unet.measure.profilers import litert, openvino
from edge_unet.measure.profilers.litert_program import RECORD, ROOM, UNTOUCHED, events
from edge_unet.measure.profilers.profile import Names
from edge_unet.pipeline.export import export
from edge_unet.targets.registry import TARGETS

CASES = [(t, p) for t in ("cpu", "onnx", "android") for p in (Precision.INT8, Precision.FP32)]
MODULES = {"cpu": "openvino", "onnx": "onnxruntime", "android": "ai_edge_litert"}
RUNS = 4


@pytest.fixture(scope="module")
def graph(tiny_canonical: Path) -> CanonicalGraph:
    return load_graph(tiny_canonical)


@pytest.fixture(scope="module")
def lowered(tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, Precision], Bundle]:
    room = tmp_path_factory.mktemp("lowered")
    made = {}
    for name, precision in CASES:
        pytest.importorskip(MODULES[name])
        (made[name, precision],) = export(tiny_canonical, (TARGETS[name],), room, precision, say=lambda _: None)
    return made


def feeds_of(bundle: Bundle, frame: NDArray[np.uint8]) -> Tensors:
    spec = bundle.manifest.artifact.inputs[0]
    return {spec.name: feed_from_pixels(frame[None], spec, bundle.manifest.preprocess)}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c[0]}-{c[1].value}")
def test_every_convolution_has_its_time(
    case: tuple[str, Precision], lowered: dict[tuple[str, Precision], Bundle], graph: CanonicalGraph,
    frames_u8: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bundle = lowered[case]
    found = layer_times(bundle, TARGETS[case[0]], feeds_of(bundle, frames_u8[0]), RUNS)
    assert (found.target, found.precision, found.runs) == (*case, RUNS)
    assert found.artifact_sha256 == bundle.manifest.artifact.sha256
    assert found.total_ns > 0
    names = {layer.name for layer in found.layers}
    convs = {node.name for node in graph.nodes if node.op == "Conv"}
    tiny_ones = {"deep", "mid"}  # may take less than the half microsecond that a profiler can tell
    assert convs - names <= tiny_ones
    assert all(layer.op == "Conv" for layer in found.layers if layer.name in convs)
    order = [layer.name for layer in found.layers if layer.name in convs]
    assert order.index("stem") < order.index("down") < order.index("head")
    assert list(tmp_path.iterdir()) == []


def test_sources_name_the_profiler(lowered: dict[tuple[str, Precision], Bundle], frames_u8: NDArray[np.uint8]) -> None:
    said = {}
    for name in MODULES:
        bundle = lowered[name, Precision.INT8]
        said[name] = layer_times(bundle, TARGETS[name], feeds_of(bundle, frames_u8[0]), RUNS).source
    assert said == {
        "cpu": "OpenVINO performance counters",
        "onnx": "ONNX Runtime profile",
        "android": "LiteRT profile, kernels of the XNNPACK delegate",
    }


class Cold:
    """Counters as the plugin's: whole microseconds, means over all runs. The first run takes ten times as long."""

    def __init__(self) -> None:
        self.spent_us = 0

    def infer(self, _: Tensors) -> Tensors:
        self.spent_us += 100 if self.spent_us else 1000
        return {}

    def totals_us(self, runs: int) -> dict[tuple[str, str, str], float]:
        return {("layer", "Convolution", "unit"): float(self.spent_us // runs * runs)}


def test_openvino_times_are_of_single_runs() -> None:
    """Taken as they are, the means would keep the cold first run for ever: 212 us after eight runs."""
    samples: dict[tuple[str, str, str], list[float]] = {}
    openvino._sample(Cold(), {}, 7, samples)  # type: ignore[arg-type]
    (times,) = samples.values()
    assert len(times) == 7
    assert np.median(times) == pytest.approx(100_000, abs=9_000)


def test_openvino_counts_means(lowered: dict[tuple[str, Precision], Bundle], frames_u8: NDArray[np.uint8]) -> None:
    """What the differences rest on: the counters times the runs never fall, beyond rounding."""
    bundle = lowered["cpu", Precision.INT8]
    session = openvino._Counting(bundle.folder, bundle.manifest.artifact, 1, "f32")
    feeds = feeds_of(bundle, frames_u8[0])
    sums = []
    for number in range(1, 13):
        session.infer(feeds)
        sums.append(sum(session.totals_us(number).values()))
    layers = sum(total > 0 for total in session.totals_us(12).values())
    assert all(later >= earlier - 12 * layers for earlier, later in pairwise(sums))
    assert sums[-1] > sums[0]


def test_bf16_where_there_is_none(lowered: dict[tuple[str, Precision], Bundle], frames_u8: NDArray[np.uint8]) -> None:
    for name in MODULES:
        bundle = lowered[name, Precision.INT8]
        with pytest.raises(UsageError, match="bf16"):
            layer_times(bundle, TARGETS[name], feeds_of(bundle, frames_u8[0]), RUNS, bf16=True)


def test_a_target_without_a_profiler(
    lowered: dict[tuple[str, Precision], Bundle], frames_u8: NDArray[np.uint8]
) -> None:
    bundle = lowered["onnx", Precision.INT8]
    with pytest.raises(UsageError, match="'interpreted' has no profiler here; known: cpu, onnx"):
        layer_times(bundle, INTERPRETED, feeds_of(bundle, frames_u8[0]), RUNS)
    runnable = {name for name, target in TARGETS.items() if target.executes_here}
    assert set(PROFILERS) <= runnable


def test_litert_as_a_whole_where_its_profiler_fails(
    lowered: dict[tuple[str, Precision], Bundle], frames_u8: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert, "TIMEOUT_S", 0.001)
    bundle = lowered["android", Precision.INT8]
    found: LayerTimes = layer_times(bundle, TARGETS["android"], feeds_of(bundle, frames_u8[0]), RUNS)
    assert found.source == "LiteRT as a whole, no layers: its profiler gave no answer in 0.001 s"
    (whole,) = found.layers
    assert (whole.name, whole.op) == ("whole model", "DELEGATE")
    assert whole.time_ns > 0


def test_litert_says_what_its_child_said(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "damaged.tflite").write_bytes(b"not a model")
    found, trouble = litert.run_child(tmp_path / "damaged.tflite", [np.zeros(1)], 1, 1)
    assert found == []
    assert "LiteRtCreateModelFromFile failed with status" in trouble


def test_litert_names_only_what_fits(lowered: dict[tuple[str, Precision], Bundle]) -> None:
    from edge_unet.targets.tflite.model_file import read_model

    bundle = lowered["android", Precision.INT8]
    file = read_model(bundle.folder, bundle.manifest.artifact)
    kernels = [litert.KERNELS[file.code(o)][0] for o in file.operators if file.code(o) not in litert.ABSORBED]
    fitting = [litert.Event(kernel, number, [1]) for number, kernel in enumerate(kernels)]
    made = litert.aligned(file, fitting)
    assert made is not None
    assert len(made) == len(fitting)
    assert litert.aligned(file, fitting[:-1]) is None
    assert litert.aligned(file, [*fitting, fitting[0]]) is None
    assert litert.aligned(file, [fitting[0]._replace(kernel="Softmax"), *fitting[1:]]) is None


def test_records_of_another_size_are_refused() -> None:
    """The child reads C structures: a library with larger ones must end in a reason, not in wrong times."""
    tag = b"Convolution\0"
    address = np.frombuffer(tag, np.uint8).ctypes.data
    record = struct.pack("<QQQQ6QQQQ", address, 8, 0, 17, *[0] * 6, 3, 0, 0)
    assert len(record) == RECORD
    room = bytes([UNTOUCHED])
    fitting = record * 2 + room * (2 * (ROOM - RECORD))
    assert events(fitting, 2) == [("Convolution", 3, 17)] * 2
    larger = (record + bytes(8)) * 2 + room * (2 * (ROOM - RECORD - 8))
    with pytest.raises(SystemExit, match="records are not of 104 bytes"):
        events(larger, 2)
    smaller = record[:-8] * 2 + room * (2 * (ROOM - RECORD + 8))
    with pytest.raises(SystemExit, match="records are not of 104 bytes"):
        events(smaller, 2)


def test_names_lead_back_to_the_graph(graph: CanonicalGraph) -> None:
    names = Names(graph)

    def found(*written: str, alone: bool = False) -> str | None:
        node = names.node(written, alone=alone)
        return None if node is None else node.name

    assert found("stem") == found("stem.biased") == found("stem_nchwc", "stem") == "stem"
    assert found("stem.act.q") == found("stem.act") == "stem"  # a conv's kernel named after the tensor that it makes
    assert found("stem.act", alone=True) == "stem.act"  # a clip of its own
    assert found("up0::wide6") == found("up0.q") == "up0"
    assert found("residual.q", "project") == "project"
    assert found("image.q") == "image.q"  # nothing makes the frame
    assert found("PRelu", "stemming") is None
