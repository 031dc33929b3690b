"""Bundles side by side: rows, stages, memory, and what is left out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from measure.planted import INTERPRETED, TARGET
from numpy.typing import NDArray

from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import UsageError
from edge_unet.core.report import STAND_IN, Schedule, read_report, write_report
from edge_unet.measure.bench import RAPID_PROFILED_RUNS, Candidate, bench
from edge_unet.pipeline.bench import _lines as printed
from edge_unet.pipeline.export import export
from edge_unet.targets.registry import TARGETS

QUICK = Schedule(warmup_runs=1, warmup_ns=0, runs=7, limit_ns=10**11)


def test_two_bundles_side_by_side(
    bundle_of: Callable[..., Bundle], frames_u8: NDArray[np.uint8], tmp_path: Path
) -> None:
    candidates = [Candidate(bundle_of(name="one"), TARGET), Candidate(bundle_of(name="two"), TARGET)]
    camera = np.repeat(np.repeat(frames_u8[0], 2, axis=0), 2, axis=1)
    report = bench(candidates, camera, schedule=QUICK, title="test")
    assert [(m.bundle, m.scope) for m in report.measurements] == [
        ("one", "model"), ("two", "model"), ("one", "end_to_end"), ("two", "end_to_end"),
    ]  # fmt: skip
    assert report.burst_order == ("one planted int8", "two planted int8") * 2
    model, whole = report.measurements[0], report.measurements[2]
    assert model.runs == whole.runs == 7
    assert model.artifact_sha256 == candidates[0].bundle.manifest.artifact.sha256
    assert model.census is not None
    assert model.census.float_layers == 3
    assert model.peak_rss_bytes is not None
    assert whole.peak_rss_bytes is None
    assert model.stage_ns is None
    assert whole.stage_ns is not None
    assert set(whole.stage_ns) == {"preprocess", "infer", "postprocess", "draw"}
    assert whole.p50_ns > model.p50_ns / 4
    assert report.environment.threads == 1
    assert report.peaks is not None
    assert [(row.bundle, row.measured_ns) for row in report.limits] == [
        (m.bundle, m.p50_ns) for m in report.measurements[:2]
    ]  # fmt: skip
    assert all(row.ratio >= 1 and row.macs == report.limits[0].macs > 0 for row in report.limits)
    assert report.layer_times == ()
    assert report.passed is None
    write_report(tmp_path / "report.json", report)
    assert read_report(tmp_path / "report.json") == report


def test_an_interpreter_is_not_timed(bundle_of: Callable[..., Bundle], frames_u8: NDArray[np.uint8]) -> None:
    report = bench([Candidate(bundle_of(), INTERPRETED)], frames_u8[0], schedule=QUICK)
    assert report.measurements == ()
    assert [(n.target, n.precision.value, n.reason) for n in report.not_measured] == [
        ("interpreted", "int8", STAND_IN)
    ]  # fmt: skip


def test_the_same_row_twice_is_refused(bundle_of: Callable[..., Bundle], frames_u8: NDArray[np.uint8]) -> None:
    candidate = Candidate(bundle_of(), TARGET)
    with pytest.raises(UsageError, match=r"same name, target and precision: .*int8"):
        bench([candidate, candidate], frames_u8[0], schedule=QUICK)


def test_limits_are_left_out_where_not_asked(bundle_of: Callable[..., Bundle], frames_u8: NDArray[np.uint8]) -> None:
    report = bench([Candidate(bundle_of(), TARGET)], frames_u8[0], schedule=QUICK, with_limits=False)
    assert (report.peaks, report.limits, report.layer_times, report.notes) == (None, (), (), ())


def test_layer_times_and_a_note_where_there_are_none(
    tiny_canonical: Path, bundle_of: Callable[..., Bundle], frames_u8: NDArray[np.uint8], tmp_path: Path
) -> None:
    (made,) = export(tiny_canonical, (TARGETS["onnx"],), tmp_path / "onnx", say=lambda _: None)
    candidates = [Candidate(made, TARGETS["onnx"]), Candidate(bundle_of(), TARGET)]
    report = bench(
        candidates, frames_u8[0], schedule=QUICK, with_end_to_end=False, with_memory=False, with_limits=False,
        with_layer_times=True,
    )  # fmt: skip
    (times,) = report.layer_times
    assert (times.target, times.runs) == ("onnx", RAPID_PROFILED_RUNS)
    assert "stem" in {layer.name for layer in times.layers}
    (note,) = report.notes
    assert note.startswith("no layer times of tiny planted int8: target 'planted' has no profiler here")


def test_what_bench_prints_of_limits(bundle_of: Callable[..., Bundle], frames_u8: NDArray[np.uint8]) -> None:
    report = bench([Candidate(bundle_of(), TARGET)], frames_u8[0], schedule=QUICK, with_memory=False)
    (row,) = report.limits
    model, whole, peaks = printed(report)
    assert model.endswith(f"7 runs, limit {row.limit_ns / 1e6:.2f} ms, x {row.ratio:.1f}")
    assert "end_to_end" in whole
    assert "limit" not in whole
    assert report.peaks is not None
    assert report.peaks.int8_macs_per_s is not None
    assert peaks.startswith(f"peaks: INT8 {report.peaks.int8_macs_per_s / 1e9:.0f}, ")
    assert "GB/s in the caches" in peaks
