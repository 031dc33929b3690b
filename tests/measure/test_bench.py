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
from edge_unet.measure.bench import Candidate, bench

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
