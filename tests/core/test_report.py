"""Percentiles by hand, JSON there and back, and refusal of what contradicts itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from edge_unet.core.artifact import Census, LayerPlacement
from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.report import (
    BenchReport,
    Environment,
    EvaluateResult,
    Measurement,
    StageTime,
    VerifyResult,
    percentile_ns,
    read_report,
    write_report,
)  # fmt: skip
from edge_unet.core.spec import Precision

WHO = {
    "target": "cpu", "precision": Precision.INT8, "runtime": "test 1.0", "bundle": "tiny", "artifact_sha256": "ab" * 32,
}  # fmt: skip


def measurement(**changes: Any) -> Measurement:
    values = {**WHO, "scope": "model", "warmup_runs": 10, "samples_ns": tuple(range(1, 101)), **changes}
    return Measurement.model_validate(values)


def test_nearest_rank_by_hand() -> None:
    assert [percentile_ns(range(1, 101), p) for p in (50, 90, 99, 100)] == [50, 90, 99, 100]
    assert [percentile_ns([30, 10, 20], p) for p in (0, 33, 34, 50, 90)] == [10, 10, 20, 20, 30]
    assert percentile_ns([7], 99) == 7
    with pytest.raises(ValueError, match="no samples"):
        percentile_ns([], 50)


def test_the_quantiles_of_a_measurement() -> None:
    made = measurement(samples_ns=(5, 1, 9, 3, 2, 4, 8, 7, 6, 1000))
    assert (made.p50_ns, made.p90_ns, made.p99_ns, made.mean_ns, made.runs) == (5, 9, 1000, 104, 10)
    assert made.row() == {
        "runtime": "test 1.0", "precision": "int8", "scope": "model", "p50_ns": 5, "p90_ns": 9, "p99_ns": 1000,
        "runs": 10, "peak_rss_bytes": None,
    }  # fmt: skip
    with pytest.raises(ValidationError, match="at least 1 item"):
        measurement(samples_ns=())


def test_json_carries_the_quantiles_and_they_are_checked() -> None:
    made = measurement(stage_ns={"infer": StageTime(p50_ns=1, p90_ns=2)}, energy_mj=1.5, energy_source="RAPL")
    stored = json.loads(made.model_dump_json())
    assert (stored["p50_ns"], stored["p90_ns"], stored["p99_ns"], stored["mean_ns"]) == (50, 90, 99, 50)
    assert Measurement.model_validate_json(made.model_dump_json()) == made
    stored["p90_ns"] = 45  # half the truth
    with pytest.raises(ValidationError, match="p90_ns is 45 but samples_ns give 90"):
        Measurement.model_validate(stored)


def verified(**changes: Any) -> VerifyResult:
    census = Census(layers=(LayerPlacement(name="a", op="Conv", precision="int8", unit="x"),), source="test")
    values = {
        **WHO, "reference": "ref", "images": 3, "gate": 0.999, "agreement": 1.0, "worst_agreement": 1.0,
        "worst_image": 0, "max_lsb": 0.0, "int8_layers": 1, "float_layers": 0, "census": census, "passed": True,
        **changes,
    }  # fmt: skip
    return VerifyResult.model_validate(values)


def test_a_failure_needs_a_reason_and_a_pass_has_none() -> None:
    with pytest.raises(ValidationError, match="exactly where there are no reasons"):
        verified(passed=False)
    with pytest.raises(ValidationError, match="exactly where there are no reasons"):
        verified(reasons=("something",))
    assert not verified(passed=False, reasons=("something",)).passed


def test_report_there_and_back(tmp_path: Path) -> None:
    report = BenchReport(
        title="t", environment=Environment(os="x"), measurements=(measurement(),),
        verified=(verified(), verified(passed=False, reasons=("no",))),
        evaluated=(EvaluateResult(dice=0.5, iou=0.4, per_class={"a": None}, images=2),),
    )  # fmt: skip
    assert report.passed is False
    path = tmp_path / "out" / "report.json"
    write_report(path, report)
    assert read_report(path) == report
    first = path.read_bytes()
    write_report(path, report)
    assert path.read_bytes() == first
    assert json.loads(first)["schema_version"] == 2


def test_a_damaged_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(UsageError, match="cannot read the report"):
        read_report(path)
    write_report(path, BenchReport(title="t", environment=Environment(), measurements=(measurement(),)))
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(ArtifactError, match="damaged report"):
        read_report(path)
    path.write_text(text.replace('"p50_ns": 50', '"p50_ns": 5'))
    with pytest.raises(ArtifactError, match="p50_ns is 5 but samples_ns give 50"):
        read_report(path)
    path.write_text(text.replace('"schema_version": 2', '"schema_version": 3'))
    with pytest.raises(ArtifactError, match="schema_version"):
        read_report(path)


def test_a_report_of_the_first_schema_is_still_read(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(path, BenchReport(title="t", environment=Environment(), measurements=(measurement(),)))
    values = json.loads(path.read_text())
    for name in ("peaks", "limits", "layer_times"):
        del values[name]
    path.write_text(json.dumps(values | {"schema_version": 1}))
    old = read_report(path)
    assert (old.schema_version, old.limits, old.measurements[0].p50_ns) == (1, (), 50)
