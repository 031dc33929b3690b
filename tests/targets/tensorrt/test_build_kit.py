"""The kit's programs, as far as they run without TensorRT: memory, golden frames, timing, choice, sidecar, errors."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_unet.core.errors import ArtifactError
from edge_unet.frames import write_png as write_frame
from edge_unet.targets.tensorrt.census import INSPECTED, engine_census
from edge_unet.targets.tensorrt.kit import build, golden, infer, latency, machine, sidecar, trtexec
from edge_unet.targets.tensorrt.kit.census import EngineLayer, counts, parse_inspector
from edge_unet.targets.tensorrt.kit.spec import GraphFile, KitError, KitSpec, load_kit, sha256_of
from edge_unet.targets.tensorrt.lower import SOURCES

SAMPLE = Path(__file__).parent / "inspector_sample.json"
MIB = machine.MIB
ORIN = machine.Machine(tensorrt="10.3.0", compute_capability="8.7", l4t="36.4.0")


# --- kit.json -------------------------------------------------------------------------------------------------------


def test_the_spec_is_what_was_lowered(spec: KitSpec) -> None:
    assert (spec.input, spec.input_shape, spec.output, spec.output_shape) == (
        "image", (1, 3, 64, 64), "logits", (1, 1, 64, 64),
    )  # fmt: skip
    assert (spec.mean, spec.scale, spec.logit_step) == (128.0, 1 / 64, 1 / 16)
    assert set(spec.graphs) == {"int8", "fp16"}


def test_a_truncated_graph_is_refused(kit: Path) -> None:
    model = kit / "model.onnx"
    model.write_bytes(model.read_bytes()[:-100])
    with pytest.raises(KitError, match=r"model\.onnx: sha256 expected \w+, received \w+; copy the kit again"):
        load_kit(kit)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"graphs": {"int8": {}}}'])
def test_a_damaged_kit_json_is_refused(kit: Path, text: str) -> None:
    (kit / "kit.json").write_text(text, encoding="utf-8")
    with pytest.raises(KitError, match=r"kit\.json: damaged"):
        load_kit(kit)


def test_a_folder_that_is_no_kit_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="not a build kit") as caught:
        load_kit(tmp_path)
    assert caught.value.exit_code == 2


# --- machine and memory ---------------------------------------------------------------------------------------------


def test_l4t_release_of_a_jetson() -> None:
    line = "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64, DATE: Fri Sep 13 04:36:44"
    assert machine.l4t_release(line) == "36.4.0"
    assert machine.l4t_release("Debian GNU/Linux 12") is None


def test_memory_available_is_read_in_bytes() -> None:
    assert machine.mem_available_bytes("MemTotal: 8000000 kB\nMemAvailable:    5000000 kB\n") == 5_120_000_000
    with pytest.raises(KitError, match="MemAvailable"):
        machine.mem_available_bytes("MemTotal: 8000000 kB\n")


def test_a_jetson_counts_its_one_memory_once() -> None:
    assert machine.buildable_bytes("36.4.0", 5000, 900) == 5000
    assert machine.buildable_bytes(None, 5000, 900) == 900


def test_workspace_follows_free_memory() -> None:
    roomy = machine.plan_memory(8000 * MIB, 2 * MIB, 50 * MIB, None)
    assert roomy.workspace_bytes == machine.LARGEST_WORKSPACE
    tight = machine.plan_memory(1800 * MIB, 2 * MIB, 50 * MIB, None)
    assert tight.workspace_bytes == (1800 - 1200 - 6 - 100) * MIB // 2
    assert tight.needed_bytes <= tight.available_bytes
    assert machine.plan_memory(4000 * MIB, 2 * MIB, 50 * MIB, 128).workspace_bytes == 128 * MIB


def test_too_little_memory_is_said_before_the_build() -> None:
    with pytest.raises(KitError, match=r"about 1370 MiB needed \(64 MiB of it workspace\), 1000 MiB available"):
        machine.plan_memory(1000 * MIB, 2 * MIB, 50 * MIB, None)
    with pytest.raises(KitError, match=r"2000 MiB of it workspace"):
        machine.plan_memory(3000 * MIB, 2 * MIB, 50 * MIB, 2000)


# --- census ---------------------------------------------------------------------------------------------------------


def test_census_of_an_inspector_sample() -> None:
    layers = parse_inspector(SAMPLE.read_text(encoding="utf-8"))
    assert [(layer.op, layer.precision) for layer in layers] == [
        ("CaskConvolution", "int8"), ("PointWiseV2", "int8"), ("CaskGroupConvolution", "fp16"), ("kgen", "fp16"),
        ("PluginV3", "unknown"),
    ]  # fmt: skip
    assert counts(layers) == {"fp16": 2, "int8": 2, "unknown": 1}
    assert layers[0].unit.startswith("sm80_xmma")


def test_engine_census_of_the_target() -> None:
    census = engine_census(SAMPLE.read_text(encoding="utf-8"), {})
    assert (census.source, census.int8_layers, census.float_layers) == (INSPECTED, 2, 3)
    first = census.layers[0].name.split()[0]
    told = engine_census(SAMPLE.read_text(encoding="utf-8"), {first: "because"})
    assert told.layers[0].unit.endswith(f", float island {first}: because")
    assert told.layers[1].unit == census.layers[1].unit


@pytest.mark.parametrize("text", ['{"Layers": ["conv1", "conv2"]}', "{}", "[]", "nonsense", '{"Layers": 3}'])
def test_an_inspector_that_says_nothing_is_an_error(text: str) -> None:
    with pytest.raises(ArtifactError, match="engine inspector: "):
        engine_census(text, {})


# --- choice ---------------------------------------------------------------------------------------------------------


def candidate(precision: str, total_ns: int, differing: int, layer: str | None = None) -> build.Candidate:
    return build.Candidate(
        precision, Path(f"model.{precision}.engine"), (EngineLayer("conv", "Conv", layer or precision, "kernel"),),
        golden.Agreement(10_000, differing, 0), [latency.Sample(10, total_ns - 20, 10, total_ns)] * 4,
    )  # fmt: skip


def test_the_faster_engine_is_kept_only_if_its_masks_agree() -> None:
    slow, fast = candidate("fp16", 900, 5), candidate("int8", 500, 5)
    assert build.choose([slow, fast], build.AGREEMENT) is fast
    wrong = candidate("int8", 500, 20)  # 99.8 %: below the gate of 99.9 %
    assert build.choose([slow, wrong], build.AGREEMENT) is slow
    faster_half = candidate("fp16", 400, 50)
    assert build.choose([faster_half, fast], build.AGREEMENT) is faster_half


def test_an_int8_engine_without_int8_layers_is_not_kept() -> None:
    silent = candidate("int8", 100, 0, layer="fp16")
    assert build.choose([candidate("fp16", 900, 0), silent], build.AGREEMENT).precision == "fp16"


def test_no_engine_that_passes_is_the_accuracy_gate() -> None:
    with pytest.raises(KitError, match=r"no engine passes: mask agreement int8 98\.0000%") as caught:
        build.choose([candidate("int8", 500, 200)], build.AGREEMENT)
    assert caught.value.exit_code == 3


def test_old_gpus_build_fp16_only(spec: KitSpec, capsys: pytest.CaptureFixture[str]) -> None:
    assert [g.precision for g in build.wanted_graphs(spec, "both", "8.7")] == ["fp16", "int8"]
    assert [g.precision for g in build.wanted_graphs(spec, "both", "6.2")] == ["fp16"]
    assert "has no INT8" in capsys.readouterr().out
    with pytest.raises(KitError, match="no int8 graph to build here"):
        build.wanted_graphs(spec, "int8", "5.3")


# --- sidecar --------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Bytes that stand for an engine: the sidecar only hashes them."""
    path = tmp_path / "model.int8.engine"
    path.write_bytes(b"serialized")
    sidecar.write_sidecar(path, ORIN, {"graph_sha256": "abc", "precision": "int8"})
    return path


def test_an_engine_of_this_machine_is_accepted(engine: Path) -> None:
    facts = sidecar.check_sidecar(engine, ORIN, {"abc"})
    assert facts["machine"] == {"tensorrt": "10.3.0", "compute_capability": "8.7", "l4t": "36.4.0"}
    assert facts["engine_sha256"] == sha256_of(engine)


@pytest.mark.parametrize(
    ("other", "key"),
    [
        (machine.Machine("10.4.0", "8.7", "36.4.0"), "tensorrt expected 10.4.0, received 10.3.0"),
        (machine.Machine("10.3.0", "7.2", "36.4.0"), "compute_capability expected 7.2, received 8.7"),
        (machine.Machine("10.3.0", "8.7", None), "l4t expected None, received 36.4.0"),
    ],
)
def test_an_engine_built_elsewhere_is_refused(engine: Path, other: machine.Machine, key: str) -> None:
    with pytest.raises(KitError, match=f"built elsewhere: {key}; engines are not portable"):
        sidecar.check_sidecar(engine, other, {"abc"})


def test_a_changed_engine_another_graph_and_a_missing_sidecar_are_refused(engine: Path) -> None:
    with pytest.raises(KitError, match="built from another graph"):
        sidecar.check_sidecar(engine, ORIN, {"def"})
    engine.write_bytes(b"other bytes")
    with pytest.raises(KitError, match="changed after it was built"):
        sidecar.check_sidecar(engine, ORIN, {"abc"})
    sidecar.sidecar_of(engine).unlink()
    with pytest.raises(KitError, match="missing or damaged"):
        sidecar.check_sidecar(engine, ORIN, {"abc"})


# --- trtexec --------------------------------------------------------------------------------------------------------


def test_trtexec_lines_of_both_majors(tmp_path: Path) -> None:
    graph = GraphFile("int8", tmp_path / "model.onnx", "")
    common = (tmp_path / "e.engine", 256 * MIB, tmp_path / "timing.cache", tmp_path / "layers.json")
    older = trtexec.command(Path("trtexec"), 10, graph, *common)
    newer = trtexec.command(Path("trtexec"), 11, graph, *common)
    assert older[-2:] == ["--int8", "--fp16"]
    assert newer == older[:-2]
    assert "--memPoolSize=workspace:256" in newer
    half = trtexec.command(Path("trtexec"), 10, GraphFile("fp16", tmp_path / "m.onnx", ""), *common)
    assert half[-1] == "--stronglyTyped"
    wide = GraphFile("int8", tmp_path / "m.onnx", "", float32_islands=True)
    assert trtexec.command(Path("trtexec"), 10, wide, *common)[-1] == "--stronglyTyped"


def test_trtexec_banners() -> None:
    assert trtexec.major_from_banner("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b26] # trtexec --help") == 10
    assert trtexec.major_from_banner("&&&& RUNNING TensorRT.trtexec [TensorRT v110400] # trtexec") == 11
    with pytest.raises(KitError, match=r"expected TensorRT 10 or 11, received \[TensorRT v8401\]"):
        trtexec.major_from_banner("[TensorRT v8401]")


def test_a_failing_trtexec_is_quoted(tmp_path: Path) -> None:
    binary = tmp_path / "trtexec"
    binary.write_text(
        '#!/bin/sh\necho "[TensorRT v100300]"\necho "[E] Unknown option: $1" >&2\nexit 1\n', encoding="utf-8"
    )
    binary.chmod(0o755)
    graph = GraphFile("int8", tmp_path / "model.onnx", "")
    with pytest.raises(KitError, match=r"ended with 1:\n.*\n\[E\] Unknown option: --onnx=.*model\.onnx"):
        trtexec.build_with_trtexec(binary, graph, tmp_path / "e.engine", 256 * MIB, tmp_path / "timing.cache")


def test_a_missing_trtexec_is_a_missing_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trtexec, "USUAL_PLACE", Path("/nonexistent/trtexec"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(KitError, match="trtexec not found") as caught:
        trtexec.find_trtexec(None)
    assert caught.value.exit_code == 5


# --- the programs as the device runs them ---------------------------------------------------------------------------


def run_alone(kit: Path, *line: str) -> subprocess.CompletedProcess[str]:
    """Run a launcher as a device would: no site, so that edge_unet itself cannot be imported, only numpy can."""
    environment = {**os.environ, "PYTHONPATH": sysconfig.get_paths()["purelib"]}
    command = [sys.executable, "-S", *line]
    return subprocess.run(command, cwd=kit, env=environment, capture_output=True, text=True, check=False)


def write_golden(kit: Path, frame: NDArray[np.uint8]) -> None:
    folder = kit.parent / "golden"
    folder.mkdir()
    write_frame(folder / "00.png", frame)
    write_frame(folder / "00.mask.png", np.zeros(frame.shape[:2], np.uint8))


def test_the_kit_stands_alone_and_names_what_is_missing(kit: Path, frames_u8: NDArray[np.uint8]) -> None:
    if run_alone(kit, "-c", "import tensorrt").returncode == 0:
        pytest.skip("TensorRT is installed here")
    assert run_alone(kit, "-c", "import edge_unet").returncode != 0
    before = sorted(kit.rglob("*"))
    write_golden(kit, frames_u8[0])
    done = run_alone(kit, "build.py")
    assert done.returncode == 5, done.stderr
    assert "sudo apt install python3-libnvinfer" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(kit.rglob("*")) == before  # the kit is hashed: nothing may be added to it


def test_build_without_golden_frames_is_a_usage_error(kit: Path) -> None:
    done = run_alone(kit, "build.py")
    assert done.returncode == 2
    assert "no golden frames (NN.png with NN.mask.png); give --golden FOLDER or --no-golden" in done.stderr


def test_infer_before_build_is_a_usage_error(kit: Path) -> None:
    done = run_alone(kit, "infer.py", "--bench", "x.json")
    assert done.returncode == 2
    assert "no engine chosen yet; run build.py on this device first" in done.stderr


def test_infer_wants_frames_or_bench(kit: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        infer.main([], kit)
    assert caught.value.code == 2


def test_golden_frames_of_a_bundle_are_read(kit: Path, spec: KitSpec, frames_u8: NDArray[np.uint8]) -> None:
    write_golden(kit, frames_u8[0])
    (frame,) = golden.read_golden(kit.parent / "golden", spec)
    assert frame.name == "00.png"
    assert np.array_equal(frame.pixels, frames_u8[0])
    assert frame.mask.shape == (64, 64)


ALLOWED = {"numpy", "tensorrt", *sys.stdlib_module_names}


@pytest.mark.parametrize("file", sorted(SOURCES.glob("*.py")), ids=lambda file: file.name)
def test_kit_files_need_numpy_and_tensorrt_only(file: Path) -> None:
    tree = ast.parse(file.read_text(encoding="utf-8"), feature_version=(3, 10))  # JetPack 6 has Python 3.10
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= ALLOWED
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            assert (node.module or "").split(".")[0] in ALLOWED
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 1, f"{file.name}:{node.lineno} reaches out of the kit"


def test_the_sample_says_that_it_is_written_by_hand() -> None:
    assert "Not captured from a device" in json.loads(SAMPLE.read_text(encoding="utf-8"))["_comment"]
