"""Peers through the whole suite: exported, quantized, compared with torch, timed beside ours, kept for the next run."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from peers import prepare
from peers.costs import read_costs
from peers.prepare import Calibration, Exported, calibration, export_peer, int8_ir, ir_artifact
from peers.runtimes import OPENVINO, OPENVINO_BF16, ORT, convolutions, not_int8, open_peer
from peers.suite import Found, add_peer, run_suite, time_rows
from torch import Tensor, nn

from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.report import BenchReport, Schedule, read_report, write_report
from edge_unet.core.spec import Precision
from edge_unet.measure.masks import logits_of
from edge_unet.targets.openvino.runtime import has_bf16

NAME, SIZE = "unext_s", 64
QUICK = Schedule(warmup_runs=1, warmup_ns=0, runs=7, limit_ns=10**11)
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where exports are kept, for all tests of this file."""
    return tmp_path_factory.mktemp("peers")


@pytest.fixture(scope="module")
def exported(room: Path) -> Exported:
    return export_peer(NAME, SIZE, room)


@pytest.fixture(scope="module")
def ranges() -> Calibration:
    return calibration(SIZE, 4)


def suite(bundles: dict[str, Path], room: Path, *, limits: bool = False) -> BenchReport:
    given = [bundles["cpu"], bundles["android"]]
    return run_suite(
        [NAME], given, SIZE, room, QUICK, images=4, with_memory=False, with_limits=limits, say=lambda _: None
    )


@pytest.mark.slow
def test_a_peer_is_timed_beside_ours_in_every_mode(bundles: dict[str, Path], room: Path, tmp_path: Path) -> None:
    report = suite(bundles, room, limits=True)
    bf16 = [(NAME, OPENVINO, "bf16"), (NAME, OPENVINO_BF16, "int8")]
    expected = {
        ("discs", "cpu", "int8"), ("discs", "android", "int8"), (NAME, ORT, "fp32"), (NAME, OPENVINO, "fp32"),
        (NAME, OPENVINO, "int8"), *(bf16 if has_bf16() else ()),
    }  # fmt: skip
    assert {(m.bundle, m.target, m.precision.value) for m in report.measurements} == expected
    assert [(r.target, r.precision.value) for r in report.not_measured] == ([] if has_bf16() else [b[1:] for b in bf16])
    assert all(m.runs == 7 for m in report.measurements)
    labels = [f"{m.bundle} {m.label}" for m in report.measurements]
    assert report.burst_order == tuple(labels) * 2, "in turn"
    assert read_costs(report.notes)[NAME].parameters == 253_385
    assert read_costs(report.notes)["discs"].macs > 0
    assert {(row.bundle, row.target, row.precision.value) for row in report.limits} == expected
    assert report.environment.after is not None
    assert any("4 procedural endoscopy scenes" in note for note in report.notes), "which images set the ranges"
    write_report(tmp_path / "r.json", report)
    assert read_report(tmp_path / "r.json") == report


@pytest.mark.slow
def test_every_mode_is_held_against_torch(bundles: dict[str, Path], room: Path) -> None:
    checks = {}
    for note in suite(bundles, room).notes:
        if found := re.match(rf"check: {NAME} (.*): largest difference to torch (\S+) .*, (\S+) % of mask", note):
            checks[found[1]] = float(found[2]), float(found[3])
    assert checks[f"{ORT} fp32"][0] < 1e-3
    assert checks[f"{OPENVINO} fp32"][0] < 1e-3
    assert checks[f"{OPENVINO} fp32"][1] > 99.9
    assert checks[f"{OPENVINO} int8"][0] > 1e-3, "INT8 is not float"
    assert 80 < checks[f"{OPENVINO} int8"][1] < 100


@pytest.mark.slow
def test_what_was_finished_is_kept(
    bundles: dict[str, Path], room: Path, monkeypatch: pytest.MonkeyPatch, exported: Exported
) -> None:
    first = suite(bundles, room)

    def refuse(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(prepare, "_onnx_bytes", refuse)
    monkeypatch.setattr(prepare, "_save", refuse)
    again = suite(bundles, room)
    assert [m.artifact_sha256 for m in again.measurements] == [m.artifact_sha256 for m in first.measurements]
    other = Calibration(calibration(SIZE, 3).frames, "others")
    with pytest.raises(ArtifactError, match=r"NNCF cannot quantize it \(made again\)"):
        int8_ir(exported, other, room)
    assert sum(path.is_dir() and "-int8-" in path.name for path in room.iterdir()) == 1, "no half of it is left"


@pytest.mark.slow
def test_wrong_logits_are_not_timed(exported: Exported, room: Path, ranges: Calibration) -> None:
    found = Found()
    add_peer(found, NAME, SIZE, ranges, room)
    truth = exported.truth + 1
    found.rows = [replace(row, truth=truth) for row in found.rows if row.precision is Precision.FP32]
    with pytest.raises(UsageError, match="no network could be opened"):
        time_rows(found, SIZE, QUICK, with_memory=False, say=lambda _: None)
    assert [(row.target, row.precision.value) for row in found.blocked] == [(ORT, "fp32"), (OPENVINO, "fp32")]
    assert all(row.reason.startswith(NAME) and "differ from torch" in row.reason for row in found.blocked)


@pytest.mark.slow
def test_folding_first_brings_depthwise_convolutions_into_int8(
    exported: Exported, room: Path, ranges: Calibration, tmp_path: Path
) -> None:
    """Without it NNCF finds no weights behind the Reshape of an ONNX file's group convolution."""
    nncf, ov = pytest.importorskip("nncf"), pytest.importorskip("openvino")
    folded = int8_ir(exported, ranges, room)
    feeds = nncf.Dataset([prepare.as_input(frame[None]) for frame in ranges.frames])
    plain = tmp_path / "plain"
    plain.mkdir()
    prepare._save(nncf.quantize(ov.Core().read_model(str(exported.onnx)), feeds), plain / "int8")
    left = {}
    for name, folder in (("folded", folded), ("plain", plain)):
        with open_peer(*ir_artifact(exported, folder, Precision.INT8)) as session:
            census = session.census()
            assert len(convolutions(census)) == 31
            left[name] = not_int8(census)
    assert len(left["plain"]) == 12, "all depthwise ones"
    assert len(left["folded"]) == 4, "the shifts that read a LayerNormalization's float"
    assert all("f32" in layer.unit for layer in left["folded"])


@pytest.mark.slow
def test_bfloat16_is_computed_in_bfloat16(exported: Exported, room: Path, ranges: Calibration) -> None:
    if not has_bf16():
        pytest.skip("this CPU has no bfloat16 arithmetic")
    folder, artifact = ir_artifact(exported, prepare.float_ir(exported, room), Precision.FP32)
    frame = prepare.check_frames(SIZE)[0]
    spec, made = prepare.frame_spec(SIZE), {}
    for bf16 in (False, True):
        with open_peer(folder, artifact, bf16=bf16) as session:
            made[bf16] = logits_of(session, frame, spec)
            assert session.census().by_precision().get("bf16", 0) == 0 or bf16
    assert 1e-4 < np.abs(made[True] - made[False]).max() < 0.5


def test_an_op_that_cannot_be_exported_is_named() -> None:
    class Eigen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            """No ONNX op does this."""
            return torch.linalg.eigvals(x).real

    with pytest.raises(ArtifactError, match=r"x: torch cannot export it to ONNX \(.*eig"):
        prepare._onnx_bytes("x", Eigen(), 8)


def test_wrong_requests_are_refused_before_anything_is_made(bundles: dict[str, Path], tmp_path: Path) -> None:
    empty = tmp_path / "room"
    with pytest.raises(UsageError, match=r"takes 64x64 frames, the run is of 96x96"):
        run_suite([], [bundles["cpu"]], 96, empty, QUICK)
    with pytest.raises(UsageError, match="given twice"):
        run_suite([], [bundles["cpu"], bundles["cpu"]], 64, empty, QUICK)
    with pytest.raises(UsageError, match="does not execute here"):
        run_suite([], [bundles["ios"]], 64, empty, QUICK)
    with pytest.raises(UsageError, match="multiples of 32"):
        run_suite([NAME], [], 100, empty, QUICK)
    assert not empty.exists()


def frames_of(name: str, size: int, images: int) -> NDArray[np.uint8]:
    made = calibration(size, images)
    assert made.name == name
    assert made.frames.shape == (images, size, size, 3)
    return made.frames


def test_ranges_come_from_training_images_where_they_are(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (shared_data / "kvasir_seg").is_dir():
        pytest.skip(f"no kvasir_seg below {shared_data}")
    monkeypatch.setenv("EDGE_UNET_DATA", str(shared_data))
    real = frames_of("32 training images of kvasir_seg", 32, 32)
    assert np.array_equal(real, calibration(32, 32).frames), "the same choice every time"
    monkeypatch.delenv("EDGE_UNET_DATA")
    drawn = frames_of("32 procedural endoscopy scenes, seed 1", 32, 32)
    assert not np.array_equal(real, drawn)


def test_the_program_says_what_it_takes() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/peers/run.py")]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in (NAME, "--ours", "--size", "--rapid"))
    wrong = subprocess.run([*command, "unext", "--out", "/dev/null/x"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("error: cannot write")
