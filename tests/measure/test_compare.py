"""Two reports: which subject is slower, whose masks are worse, and what else differs."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from edge_unet.core.artifact import Census, LayerPlacement
from edge_unet.core.errors import UsageError
from edge_unet.core.machine import Environment, MachineState
from edge_unet.core.report import RAPID, BenchReport, EvaluateResult, Measurement, VerifyResult
from edge_unet.core.spec import Precision
from edge_unet.core.subject import Subject
from edge_unet.measure.compare import ONE_RUN, Comparison, compare, in_buckets
from edge_unet.measure.compare_forms import comparison_junit, in_lines, render_comparison
from edge_unet.measure.compare_ratio import Ratio

MACHINE = Environment(cpu_model="Test CPU", threads=1, packages={"openvino": "1.0", "numpy": "2.0"})


def who(target: str = "cpu", precision: Precision = Precision.INT8, **changes: Any) -> dict[str, Any]:
    return {
        "target": target, "precision": precision, "runtime": "runtime 1.0", "bundle": "tiny",
        "artifact_sha256": "a" * 64, **changes,
    }  # fmt: skip


def census(int8: int, fp32: int) -> Census:
    kinds = ["int8"] * int8 + ["fp32"] * fp32
    layers = (LayerPlacement(name=str(i), op="Conv", precision=p, unit="u") for i, p in enumerate(kinds))
    return Census(layers=tuple(layers), source="runtime model")


def timed(milli: float, scope: str = "model", *, runs: int = 64, seed: int = 0, **changes: Any) -> Measurement:
    noise = np.random.default_rng(seed).normal(1, 0.01, runs)
    values = {
        **who(), "scope": scope, "warmup_runs": 10, "samples_ns": tuple(int(milli * 1e6 * n) for n in noise), **changes
    }  # fmt: skip
    return Measurement.model_validate(values)


def checked(**changes: Any) -> VerifyResult:
    values = {
        **who(), "reference": "r", "images": 20, "gate": 0.999, "agreement": 1.0, "worst_agreement": 1.0,
        "worst_image": 0, "max_lsb": 0.0, "int8_layers": 9, "float_layers": 1, "census": census(9, 1), "passed": True,
        **changes,
    }  # fmt: skip
    return VerifyResult.model_validate(values)


def scored(dice: float, **changes: Any) -> EvaluateResult:
    values = {"dice": dice, "iou": 0.7, "per_class": {}, "images": 20, "data": "val", "subject": Subject(**who())}
    return EvaluateResult.model_validate({**values, **changes})


def report(*measurements: Measurement, **changes: Any) -> BenchReport:
    values = {"title": "t", "environment": MACHINE, "schedule": RAPID, "measurements": measurements, **changes}
    return BenchReport.model_validate(values)


def only(found: Comparison) -> tuple[str, float]:
    (pair,) = found.pairs
    return pair.verdict, round(pair.p50.value, 2)


@pytest.mark.parametrize(
    ("factor", "verdict"),
    [(1.0, "same"), (1.03, "slower"), (1.1, "regression"), (0.9, "faster"), (2.5, "regression")],
)
def test_a_subject_regresses_only_beyond_the_tolerance(factor: float, verdict: str) -> None:
    found = compare(report(timed(4.0, seed=1)), report(timed(4.0 * factor, seed=2)))
    assert only(found) == (verdict, factor)
    assert found.passed is (verdict != "regression")
    assert len(found.regressions) == (verdict == "regression")


def test_the_tolerance_is_the_users() -> None:
    base, new = report(timed(4.0, seed=1)), report(timed(4.4, seed=2))
    assert compare(base, new, tolerance=0.2).pairs[0].verdict == "slower"
    assert compare(base, new, tolerance=0.0).pairs[0].verdict == "regression"
    with pytest.raises(UsageError, match="tolerance from 0 to 10"):
        compare(base, new, tolerance=-0.1)


def test_noise_is_no_regression_and_no_pass_either() -> None:
    """Bursts of 4 ms and of 8 ms: the median may come out anywhere between."""
    rng = np.random.default_rng(3)

    def shaky() -> Measurement:
        return timed(4.0).model_copy(
            update={"samples_ns": tuple(np.repeat(rng.choice((4_000_000, 8_000_000), 13), 5).tolist())}
        )

    (pair,) = compare(report(shaky()), report(shaky())).pairs
    assert pair.verdict == "unclear"
    assert pair.words.startswith("too noisy to tell, up to 2.00x slower")


def test_too_few_runs_cannot_tell() -> None:
    found = compare(report(timed(4.0, runs=20)), report(timed(8.0, runs=20)))
    assert only(found) == ("unclear", 2.0)
    assert found.pairs[0].words == "too few runs to tell"
    assert found.passed
    assert "1 could not be told" in in_lines(found)[-1]


def test_words_are_buckets() -> None:
    def words(value: float) -> str:
        return in_buckets(Ratio(value=value, low=value - 0.001, high=value + 0.001))

    assert [words(v) for v in (1.06, 1.1, 1.27, 1.49, 1.9, 2.0, 7.0)] == [
        "less than 1.1x slower", "1.1x to 1.2x slower", "1.2x to 1.3x slower", "1.3x to 1.5x slower",
        "1.5x to 2x slower", "2x slower or more", "2x slower or more",
    ]  # fmt: skip
    assert [words(v) for v in (0.95, 0.85, 0.4)] == [
        "less than 1.1x faster", "1.1x to 1.2x faster", "2x faster or more",
    ]  # fmt: skip
    assert words(1.0) == "no difference shown"


def test_subjects_pair_by_bundle_target_precision_and_scope() -> None:
    fp32 = who(precision=Precision.FP32)
    base = report(timed(4.0), timed(9.0, **fp32), timed(6.0, "end_to_end"))
    new = report(timed(6.0, "end_to_end"), timed(4.0), timed(5.0, **who(bundle="other")))
    found = compare(base, new)
    assert [pair.label for pair in found.pairs] == ["tiny cpu int8 model", "tiny cpu int8 end_to_end"]
    assert found.only_base == ("tiny cpu fp32 model",)
    assert found.only_new == ("other cpu int8 model",)
    with pytest.raises(UsageError, match=r"no subject is in both results; base has tiny cpu fp32 model"):
        compare(report(timed(9.0, **fp32)), report(timed(4.0)))


def test_repeats_in_a_file_count_together() -> None:
    """Three runs that were joined: the shift between them is part of the noise."""
    base = report(*(timed(4.0 * shift, seed=n) for n, shift in enumerate((0.9, 1.0, 1.1))))
    new = report(*(timed(4.3 * shift, seed=n + 3) for n, shift in enumerate((0.9, 1.0, 1.1))))
    found = compare(base, new)
    (pair,) = found.pairs
    assert found.notes == ()
    assert pair.runs == 192
    assert pair.p50.value == pytest.approx(1.075, abs=0.005)
    assert pair.verdict == "unclear"
    assert pair.new_p50_ns == pytest.approx(4.3e6, rel=0.01)


def test_two_machines_are_not_compared() -> None:
    other = report(timed(4.0), environment=MACHINE.model_copy(update={"cpu_model": "Other CPU", "threads": 2}))
    base = report(timed(4.0))
    with pytest.raises(UsageError, match="cpu model Test CPU and Other CPU, threads 1 and 2"):
        compare(base, other)
    found = compare(base, other, any_machine=True)
    assert [(d.what, d.base, d.new) for d in found.changed] == [
        ("cpu model", "Test CPU", "Other CPU"), ("threads", "1", "2"),
    ]  # fmt: skip


def test_what_changed_is_named() -> None:
    changes = {
        "packages": {"openvino": "1.1", "onnx": "3"}, "governor": "powersave", "throttled": True,
        "before": MachineState(mhz=2500, temperature_c=70), "after": MachineState(mhz=1400),
        "warnings": ("on battery",),
    }  # fmt: skip
    known = {"before": MachineState(mhz=2500, temperature_c=50), "after": MachineState(mhz=2500), "throttled": False}
    base = report(
        timed(4.0, census=census(9, 1)), verified=(checked(artifact_bytes=100),),
        environment=MACHINE.model_copy(update=known),
    )  # fmt: skip
    now = who(runtime="runtime 1.1", artifact_sha256="b" * 64)
    new = report(
        timed(4.0, census=census(6, 4), **now), verified=(checked(**now, artifact_bytes=120),),
        environment=MACHINE.model_copy(update=changes),
    )  # fmt: skip
    found = compare(base, new)
    assert {(d.what, d.base, d.new) for d in found.changed} == {
        ("governor", "not measured", "powersave"), ("throttled", "False", "True"), ("numpy", "2.0", "absent"),
        ("onnx", "absent", "3"), ("openvino", "1.0", "1.1"), ("clock", "2500 MHz", "1400 MHz"),
        ("temperature", "50 °C", "70 °C"), ("warnings", "none", "on battery"),
    }  # fmt: skip
    assert {(d.what, d.base, d.new) for d in found.pairs[0].changed} == {
        ("runtime", "runtime 1.0", "runtime 1.1"), ("artifact bytes", "100", "120"),
        ("layers", "9 INT8, 1 float", "6 INT8, 4 float"), ("artifact sha256", "a" * 12, "b" * 12),
    }  # fmt: skip


def test_nothing_changed_is_said_by_silence() -> None:
    near = {"mhz": 2510.0, "temperature_c": 52.0}
    base = report(timed(4.0), environment=MACHINE.model_copy(update={"mhz": 2500.0, "temperature_c": 50.0}))
    found = compare(base, report(timed(4.0), environment=MACHINE.model_copy(update=near)))
    assert found.changed == ()
    assert found.pairs[0].changed == ()


def test_a_lost_dice_fails() -> None:
    base = report(timed(4.0), evaluated=(scored(0.8500),))
    kept = compare(base, report(timed(4.0), evaluated=(scored(0.8492),)))
    lost = compare(base, report(timed(4.0), evaluated=(scored(0.8485),)))
    assert (kept.passed, lost.passed) == (True, False)
    assert [(d.label, d.lost) for d in lost.dice] == [("tiny cpu int8 on val", True)]
    assert lost.losses[0].reason == "Dice 0.8500 -> 0.8485; 0.1 points may go"
    better = compare(report(timed(4.0), evaluated=(scored(0.8485),)), base)
    assert better.passed


def test_a_dice_of_other_images_is_not_compared() -> None:
    base = report(timed(4.0), evaluated=(scored(0.85),))
    other = compare(base, report(timed(4.0), evaluated=(scored(0.2, data="other"),)))
    fewer = compare(base, report(timed(4.0), evaluated=(scored(0.2, images=3),)))
    assert (other.dice, fewer.dice, other.passed, fewer.passed) == ((), (), True, True)
    assert other.notes == (ONE_RUN, "tiny cpu int8 on val: Dice not compared, only base has one")
    assert fewer.notes == (ONE_RUN, "tiny cpu int8 on val: Dice not compared, it is of 20 and of 3 images")
    assert compare(base, base, interleaved=True).notes == ()


def test_the_dice_of_verify_counts_where_there_is_no_other() -> None:
    base = report(timed(4.0), verified=(checked(dice=0.85, reference_dice=0.85),))
    found = compare(base, report(timed(4.0), verified=(checked(dice=0.84, reference_dice=0.84),)))
    assert [x.reason for x in found.losses] == ["Dice 0.8500 -> 0.8400; 0.1 points may go"]


def test_a_failed_verify_fails() -> None:
    new = report(timed(4.0), verified=(checked(passed=False, reasons=("mask agreement 97 %",)),))
    found = compare(report(timed(4.0)), new)
    assert [(x.label, x.reason) for x in found.losses] == [("tiny cpu int8", "mask agreement 97 %")]
    assert compare(new, report(timed(4.0))).passed  # the older one's failure is mended


def everything() -> Comparison:
    base = report(
        timed(4.0, seed=1), timed(6.0, "end_to_end", runs=20), timed(9.0, **who(precision=Precision.FP32)),
        evaluated=(scored(0.85),),
    )  # fmt: skip
    slow = who(runtime="runtime 2.0")
    new = report(
        timed(5.0, seed=2, **slow), timed(6.0, "end_to_end", runs=20, **slow), evaluated=(scored(0.80),)
    )  # fmt: skip
    return compare(base, new)


def test_a_comparison_survives_json() -> None:
    found = everything()
    assert Comparison.model_validate_json(found.model_dump_json()) == found
    row = json.loads(json.dumps(found.row()))
    assert row["passed"] is False
    assert row["regressions"] == ["tiny cpu int8 model"]
    assert row["pairs"][0]["p50"]["low"] > 1


def test_lines() -> None:
    lines = [line.replace("\N{NO-BREAK SPACE}", " ") for line in in_lines(everything())]
    assert lines[0].startswith("two result files, 5 % tolerance")
    assert lines[1].startswith("tiny cpu int8 model       p50 4.0")
    assert lines[1].endswith("REGRESSION, 1.2x to 1.3x slower")
    assert lines[2] == "  runtime: runtime 1.0 -> runtime 2.0"
    assert "tiny cpu int8 on val: Dice 0.8500 -> 0.8000 (-5.00 points)" in lines
    assert "only in base: tiny cpu fp32 model" in lines
    assert lines[-1] == "FAILED: accuracy losses: 1, latency regressions: 1"


def test_markdown() -> None:
    text = render_comparison(everything()).replace("\N{NO-BREAK SPACE}", " ")
    assert text.startswith("## ❌ FAILED: accuracy losses: 1, latency regressions: 1\n")
    assert "| tiny cpu int8 model | runtime | runtime 1.0 | runtime 2.0 |" in text
    assert "- **tiny cpu int8 on val**: Dice 0.8500 -> 0.8000; 0.1 points may go" in text
    assert "| tiny cpu int8 on val | 0.8500 | 0.8000 | -5.00 |" in text
    assert "- only in base: tiny cpu fp32 model" in text
    rows = [line for line in text.splitlines() if line.startswith("| tiny cpu int8 model | 4.")]
    assert len(rows) == 1
    assert rows[0].endswith("| REGRESSION, 1.2x to 1.3x slower |")
    assert render_comparison(compare(report(timed(4.0)), report(timed(4.0)))).startswith("## ✅ passed")


def test_junit() -> None:
    suite = ElementTree.fromstring(comparison_junit(everything()))[0]
    assert {k: suite.attrib[k] for k in ("tests", "failures", "skipped")} == {
        "tests": "4", "failures": "2", "skipped": "2",
    }  # fmt: skip
    found = {(c.attrib["classname"], c.attrib["name"]): [e.tag for e in c] for c in suite.iter("testcase")}
    assert found == {
        ("compare latency", "tiny cpu int8 model"): ["failure", "system-out"],
        ("compare latency", "tiny cpu int8 end_to_end"): ["skipped", "system-out"],
        ("compare accuracy", "tiny cpu int8 on val"): ["failure"],
        ("compare latency", "tiny cpu fp32 model"): ["skipped"],
    }
