"""`compare` on real bundles and files: which gate fails, with which exit code, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from command_line import wrong_scale
from small_road import Road, quiet

from edge_unet.core.errors import AccuracyGateError, PerformanceGateError, UsageError
from edge_unet.core.report import BenchReport, Schedule, read_report, write_report
from edge_unet.measure.compare import Comparison
from edge_unet.pipeline import bench as bench_module
from edge_unet.pipeline import compare as compare_module
from edge_unet.pipeline.bench import bench
from edge_unet.pipeline.compare import compare, compare_bundles, compare_files, gate
from edge_unet.pipeline.report import join

QUICK = Schedule(warmup_runs=3, warmup_ns=0, runs=60, limit_ns=10**10)


@pytest.fixture(autouse=True)
def rapid(monkeypatch: pytest.MonkeyPatch) -> None:
    """--rapid is quicker still."""
    monkeypatch.setattr(compare_module, "RAPID", QUICK)
    monkeypatch.setattr(bench_module, "RAPID", QUICK)


@pytest.fixture(scope="module")
def result(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A result file of bench."""
    out = tmp_path_factory.mktemp("result") / "bench.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_module, "RAPID", QUICK)
        bench([bundles["onnx"]], out, rapid=True, say=quiet)
    return out


def slowed(path: Path, into: Path, factor: float) -> Path:
    """The same result with every sample `factor` times as long."""
    report = read_report(path)
    measurements = tuple(
        m.model_copy(update={"samples_ns": tuple(round(s * factor) for s in m.samples_ns)}) for m in report.measurements
    )
    write_report(into, report.model_copy(update={"measurements": measurements}))
    return into


def test_a_bundle_beside_itself_passes_and_says_all(road: Road, bundles: dict[str, Path], tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "deeper/compare"
    found = compare(bundles["cpu"], bundles["cpu"], data=road.data, repeats=2, rapid=True, out=out, say=said.append)
    gate(found)
    assert found.method == "interleaved, 2 repeats"
    assert [pair.label for pair in found.pairs] == ["discs cpu int8 model"]
    assert found.pairs[0].runs == 2 * QUICK.runs
    assert found.pairs[0].changed == ()
    assert [(d.label, d.base == d.new) for d in found.dice] == [("discs cpu int8", True)]
    assert said[-1].startswith("passed: no regression in 1 subjects")
    assert sorted(p.name for p in out.iterdir()) == ["comparison.json", "comparison.junit.xml", "comparison.md"]
    value = json.loads((out / "comparison.json").read_text())
    assert value["passed"] is True
    assert Comparison.model_validate({k: v for k, v in value.items() if k not in ("passed", "regressions")}) == found
    assert "discs cpu int8 model" in (out / "comparison.md").read_text()
    assert ElementTree.parse(out / "comparison.junit.xml").getroot().attrib["failures"] == "0"


def test_the_slower_of_two_runtimes_is_a_regression(bundles: dict[str, Path]) -> None:
    """ONNX Runtime and OpenVINO differ by far more than the tolerance on this network, whichever is quicker."""
    there = compare_bundles(bundles["onnx"], bundles["cpu"], repeats=2, rapid=True, say=quiet)
    back = compare_bundles(bundles["cpu"], bundles["onnx"], repeats=2, rapid=True, say=quiet)
    assert {there.pairs[0].verdict, back.pairs[0].verdict} == {"regression", "faster"}
    slower = there if there.regressions else back
    with pytest.raises(
        PerformanceGateError, match=r"more than 5 % slower: discs \w+ int8 model: p50 .*slower"
    ) as caught:
        gate(slower)
    assert caught.value.exit_code == 4
    changed = {d.what: (d.base, d.new) for d in there.pairs[0].changed}
    assert changed["target"] == ("onnx", "cpu")
    assert changed["runtime"][1].startswith("openvino")
    assert {"artifact bytes", "artifact sha256"} <= set(changed)
    assert "name" not in changed


def test_masks_come_before_milliseconds(road: Road, bundles: dict[str, Path], tmp_path: Path) -> None:
    broken = wrong_scale(bundles["onnx"], tmp_path / "broken")
    found = compare_bundles(bundles["onnx"], broken, data=road.data, repeats=1, rapid=True, say=quiet)
    with pytest.raises(AccuracyGateError, match="discs onnx int8: ") as caught:
        gate(found)
    assert caught.value.exit_code == 3
    assert "scale" in found.losses[0].reason
    both = found.model_copy(
        update={"pairs": tuple(p.model_copy(update={"verdict": "regression"}) for p in found.pairs)}
    )
    with pytest.raises(AccuracyGateError):
        gate(both)


def test_files(result: Path, tmp_path: Path) -> None:
    same = compare_files(result, result, say=quiet)
    gate(same)
    assert len(same.pairs) == 4
    assert {pair.p50.value for pair in same.pairs} == {1.0}
    assert same.base == same.new == str(result)
    slow = compare(result, slowed(result, tmp_path / "slow.json", 1.5), say=quiet, out=tmp_path)
    assert [round(pair.p50.value, 2) for pair in slow.pairs] == [1.5] * 4
    assert (tmp_path / "comparison.json").is_file()
    with pytest.raises(PerformanceGateError, match=r"slower \| and 1 more$"):
        gate(slow)


def test_files_of_two_machines(result: Path, tmp_path: Path) -> None:
    report = read_report(result)
    other = report.model_copy(update={"environment": report.environment.model_copy(update={"cpu_model": "other"})})
    write_report(tmp_path / "other.json", other)
    with pytest.raises(UsageError, match="different machines"):
        compare(result, tmp_path / "other.json", say=quiet)
    assert compare(result, tmp_path / "other.json", any_machine=True, say=quiet).changed != ()


def test_what_cannot_be_compared(bundles: dict[str, Path], result: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two bundles or two result files"):
        compare(bundles["cpu"], result, say=quiet)
    with pytest.raises(UsageError, match="at least 1 repeat"):
        compare(bundles["cpu"], bundles["cpu"], repeats=0, say=quiet)
    with pytest.raises(UsageError, match="cannot read the report"):
        compare(result, tmp_path / "absent.json", say=quiet)
    with pytest.raises(UsageError, match="ios int8 cannot be timed here"):
        compare(bundles["cpu"], bundles["ios"], repeats=1, rapid=True, say=quiet)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="choose a writable"):
        compare(bundles["cpu"], bundles["cpu"], out=tmp_path / "file", say=quiet)


def test_joined_results_keep_their_limits_and_states(result: Path) -> None:
    """join: what only the second result holds is kept, and the machine is described from first to last."""
    from edge_unet.core.limits import Peaks
    from edge_unet.core.machine import MachineState

    report = read_report(result)
    peaks = Peaks(threads=1, small_bytes_per_s=2, large_bytes_per_s=1, method="m")
    cold, hot = MachineState(temperature_c=40), MachineState(temperature_c=80)
    first = report.environment.model_copy(update={"before": cold, "after": cold, "throttled": False})
    last = report.environment.model_copy(
        update={"before": hot, "after": hot, "throttled": True, "warnings": ("w",), "packages": {}}
    )
    nothing = BenchReport(title="first", environment=first)
    joined = join([nothing, report.model_copy(update={"environment": last, "peaks": peaks})])
    assert (joined.title, joined.peaks, joined.schedule) == ("first", peaks, report.schedule)
    assert joined.burst_order == report.burst_order
    assert (joined.environment.before, joined.environment.after) == (cold, hot)
    assert (joined.environment.throttled, joined.environment.warnings) == (True, ("w",))
    assert joined.environment.packages == report.environment.packages
