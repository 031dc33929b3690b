"""What a verb loads: never torch where no network is built, never a toolchain of another target."""

from __future__ import annotations

from pathlib import Path

import pytest
from blocked import run_without

from edge_unet.core.machine import Environment
from edge_unet.core.report import BenchReport, write_report

RUN = (
    "import atexit, sys\n"
    "atexit.register(lambda: print('MODULES', *sorted(sys.modules)))\n"
    "from edge_unet.cli import main\nmain()"
)
TOOLCHAINS = frozenset(
    {"torch", "openvino", "onnxruntime", "ai_edge_litert", "coremltools", "tensorrt", "tflite_micro", "ethosu", "nncf"}
)
REFERENCE = "onnxruntime"
"""Verify compares with it; golden frames are made with it."""


def loaded(*arguments: str | Path) -> set[str]:
    """The toolchains that one command has imported when it ends."""
    done = run_without([], RUN, *map(str, arguments))
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("MODULES ")]
    return {name.split(".")[0] for name in line.split()[1:]} & TOOLCHAINS


@pytest.fixture
def result(tmp_path: Path) -> Path:
    path = tmp_path / "result.json"
    write_report(path, BenchReport(title="nothing", environment=Environment()))
    return path


def test_doctor_models_and_report_load_none(result: Path, tmp_path: Path) -> None:
    assert loaded("doctor") == set()
    assert loaded("models") == set()
    assert loaded("report", result, "--out", tmp_path / "page") == set()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "own"),
    [("cpu", "openvino"), ("android", "ai_edge_litert"), ("ios", "coremltools"), ("jetson", ""), ("onnx", "")],
)
def test_export_of_a_canonical_graph_loads_its_own_toolchain(
    tiny_canonical: Path, tmp_path: Path, target: str, own: str
) -> None:
    found = loaded("export", tiny_canonical, "--target", target, "--out", tmp_path)
    assert found <= {own, REFERENCE}
    assert not own or own in found


@pytest.mark.slow
@pytest.mark.parametrize(("target", "own"), [("cpu", "openvino"), ("android", "ai_edge_litert"), ("onnx", REFERENCE)])
def test_verify_and_bench_load_one_runtime_and_the_reference(
    bundles: dict[str, Path], tmp_path: Path, target: str, own: str
) -> None:
    assert loaded("verify", bundles[target]) == {own, REFERENCE}
    out = tmp_path / "bench.json"
    assert loaded("bench", bundles[target], "--rapid", "--no-limits", "--out", out) == {own, REFERENCE}


@pytest.mark.slow
def test_the_machine_s_peaks_are_measured_with_openvino(bundles: dict[str, Path], tmp_path: Path) -> None:
    found = loaded("bench", bundles["onnx"], "--rapid", "--out", tmp_path / "bench.json")
    assert found == {REFERENCE, "openvino"}


def test_the_test_itself_sees_what_is_loaded() -> None:
    done = run_without([], "import sys, onnxruntime; print('MODULES', *sorted(sys.modules))")
    assert "onnxruntime" in done.stdout.split()
