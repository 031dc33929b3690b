"""JUnit, CSV, the files of the benchmark action and the schema: the same numbers for machines to read."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from measure.test_report_page import MS, checked, full_report, who

from edge_unet.core.limits import LayerTime, LayerTimes, LimitRow, Peaks
from edge_unet.core.machine import Environment, MachineState
from edge_unet.core.report import STAND_IN, BenchReport, EvaluateResult, NotMeasured, Subject
from edge_unet.core.spec import Precision
from edge_unet.measure.report import charts, render_bigger, render_csv, render_junit, render_markdown, render_smaller
from edge_unet.measure.report.schema import report_schema
from edge_unet.measure.report.tables import environment_rows, state_table, warnings_of
from edge_unet.measure.report.view import Dot, place_dots
from edge_unet.measure.report.view_limits import layer_charts, limits_table, roofline
from edge_unet.measure.report.wording import SPACE, Names

ROOT = Path(__file__).resolve().parents[2]


def limited() -> BenchReport:
    """full_report with a limit, layer times and the machine's states."""
    row = LimitRow(**who(), macs=200_000_000, bytes_moved=10_000_000, limit_ns=MS, measured_ns=4 * MS)
    layers = tuple(LayerTime(name=f"conv{n}", op="Conv", unit="kernel_i8", time_ns=1000 * (n + 1)) for n in range(20))
    return full_report().model_copy(
        update={
            "peaks": Peaks(
                threads=1, int8_macs_per_s=400e9, fp32_macs_per_s=100e9, small_bytes_per_s=80e9,
                large_bytes_per_s=10e9, method="Measured.",
            ),
            "limits": (row,),
            "layer_times": (LayerTimes(**who(), source="profiler", runs=50, layers=layers),),
            "environment": Environment(
                cpu_model="Test CPU", threads=1, before=MachineState(mhz=2500.0, temperature_c=50.04),
                after=MachineState(mhz=1800.0, throttle_count=7), throttled=True, warnings=("governor is powersave",),
            ),
        }
    )  # fmt: skip


def test_junit_has_a_case_for_each_artifact() -> None:
    none = NotMeasured(target="jetson", precision=Precision.INT8, reason="none")
    report = full_report().model_copy(update={"not_measured": (*full_report().not_measured, none)})
    suite = ElementTree.fromstring(render_junit(report))[0]
    cases = {(c.attrib["classname"], c.attrib["name"]): c for c in suite.iter("testcase")}
    assert list(cases) == [
        ("tiny", "cpu fp32"),
        ("tiny", "cpu int8"),
        ("tiny", "ios int8"),
        (report.title, "jetson int8"),
    ]
    assert {k: suite.attrib[k] for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "4", "failures": "1", "errors": "0", "skipped": "1",
    }  # fmt: skip
    good = cases["tiny", "cpu int8"]
    assert good.attrib["time"] == "0.004000"  # seconds of the p90
    assert [e.tag for e in good] == ["system-out"]
    assert "p90 4.00 ms" in (good[0].text or "")
    assert "agreement 99.975 %" in (good[0].text or "")
    failure = cases["tiny", "ios int8"].find("failure")
    assert failure is not None
    assert failure.attrib["message"] == "mask agreement 97 %"
    skipped = cases[report.title, "jetson int8"].find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == "not measured: none"
    properties = {p.attrib["name"]: p.attrib["value"] for p in suite.iter("property")}
    assert properties["CPU"] == "Test CPU"


def test_junit_skips_what_was_verified_and_not_timed() -> None:
    report = BenchReport(
        title="t", environment=Environment(), verified=(checked(**who("ios", on_device=False)),),
        not_measured=(NotMeasured(target="ios", precision=Precision.INT8, reason=STAND_IN),),
    )  # fmt: skip
    (case,) = ElementTree.fromstring(render_junit(report)).iter("testcase")
    skipped = case.find("skipped")
    assert skipped is not None
    assert skipped.attrib["message"] == f"latency not measured: {STAND_IN}; the accuracy gate passed"
    assert "time" not in case.attrib


def test_junit_is_xml_whatever_a_name_holds() -> None:
    report = BenchReport(title='a "<&>\x00\x1b', environment=Environment(), verified=(checked(bundle="\ud800\x07ü"),))
    suite = ElementTree.fromstring(render_junit(report).encode())[0]
    assert suite.attrib["name"] == 'a "<&>??'
    assert next(suite.iter("testcase")).attrib["classname"] == "??ü"


def test_csv_has_a_row_for_each_measurement() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(limited()))))
    assert [(r["target"], r["precision"], r["scope"]) for r in rows] == [
        ("cpu", "fp32", "model"), ("cpu", "int8", "model"), ("cpu", "int8", "end_to_end"),
    ]  # fmt: skip
    model, whole = rows[1], rows[2]
    assert float(model["p90_ms"]) == pytest.approx(4.000089)
    assert (model["runs"], model["peak_rss_bytes"], model["int8_layers"], model["float_layers"]) == (
        "100", "123400000", "9", "1",
    )  # fmt: skip
    assert (model["dice"], model["agreement_share"]) == ("0.84321", "0.99975")
    assert (model["limit_ms"], model["measured_over_limit"]) == ("1.0", "4.0")
    assert (whole["infer_p50_ms"], model["infer_p50_ms"]) == ("4.0", "")
    assert whole["measured_over_limit"] == ""  # the limit is of the model alone
    assert (whole["limit_ms"], rows[0]["limit_ms"], model["energy_mj_per_run"]) == ("", "", "")  # not measured, not 0


def entries(text: str) -> dict[str, dict[str, Any]]:
    found = json.loads(text)
    assert len({e["name"] for e in found}) == len(found)
    assert all(set(e) - {"range", "extra"} == {"name", "unit", "value"} for e in found)
    assert all(isinstance(e["value"], int | float) for e in found)
    return {e["name"]: e for e in found}


def test_the_smaller_file_of_the_benchmark_action() -> None:
    report = full_report()
    found = entries(render_smaller(report.model_copy(update={"verified": (checked(artifact_bytes=734_000),)})))
    assert set(found) == {
        *(f"tiny cpu {p} model p{n}" for p in ("fp32", "int8") for n in (90, 99)),
        "tiny cpu int8 end_to_end p90", "tiny cpu int8 end_to_end p99", "tiny cpu int8 model peak memory",
        "tiny cpu int8 artifact size",
    }  # fmt: skip
    p90 = found["tiny cpu int8 model p90"]
    assert (p90["unit"], p90["value"], p90["range"]) == ("ms", 4.000089, "4.000 to 4.000")
    assert (found["tiny cpu int8 artifact size"]["value"], found["tiny cpu int8 artifact size"]["unit"]) == (
        734_000,
        "bytes",
    )


def test_the_bigger_file_of_the_benchmark_action() -> None:
    report = full_report()
    data = EvaluateResult(dice=0.8, iou=0.7, per_class={}, images=3, data="other", subject=Subject(**who()))
    found = entries(render_bigger(report.model_copy(update={"evaluated": (*report.evaluated, data)})))
    assert found["tiny cpu int8 Dice"]["value"] == 0.84321
    assert found["tiny cpu int8 Dice on other"]["value"] == 0.8
    assert found["tiny ios int8 agreement"] == {
        "name": "tiny ios int8 agreement", "unit": "%", "value": 97.0, "extra": "20 images"
    }  # fmt: skip
    assert found["tiny cpu int8 end_to_end frames a second at p90"]["value"] == pytest.approx(125, abs=0.01)


def test_a_report_without_anything_has_empty_forms() -> None:
    empty = BenchReport(title="t", environment=Environment())
    assert json.loads(render_smaller(empty)) == json.loads(render_bigger(empty)) == []
    assert render_csv(empty).count("\n") == 1
    assert list(ElementTree.fromstring(render_junit(empty)).iter("testcase")) == []


def test_the_roofline() -> None:
    found = roofline(limited())
    assert found is not None
    assert [(r.kind, r.label) for r in found.roofs] == [
        ("caches", "caches 80 GB/s"), ("memory", "memory 10 GB/s"), ("int8", "INT8 400 GMAC/s"),
        ("fp32", "FP32 100 GMAC/s"),
    ]  # fmt: skip
    (dot,) = found.dots
    assert dot.x == found.x.percent(20)  # 200 M MACs over 10 MB
    assert dot.y == found.y.percent(50)  # 200 M MACs in 4 ms
    memory, int8 = found.roofs[1], found.roofs[2]
    assert memory.x2 == found.x.percent(40)  # 10 GB/s x 40 MACs a byte = 400 GMAC/s
    assert memory.y2 == int8.y1 == int8.y2 == found.y.percent(400)
    assert int8.x1 == found.x.percent(5)  # where the caches' 80 GB/s reach it
    assert all(0 < v < 100 for v in (dot.x, dot.y, memory.x2, int8.y1))
    assert roofline(full_report()) is None
    assert roofline(limited().model_copy(update={"limits": ()})) is None


def test_dots_that_would_cover_one_another_are_one() -> None:
    points = [(10.0, 50.0, "int8"), (60.0, 50.0, "fp32"), (12.0, 55.0, "int8"), (61.0, 49.0, "bf16")]
    dots, marks = place_dots(points)
    assert dots == (Dot(10.0, 50.0, "int8", "1, 3"), Dot(60.0, 50.0, "mixed", "2, 4"))
    assert marks == (Dot(12.0, 55.0, "int8", ""), Dot(61.0, 49.0, "bf16", ""))


def test_the_machine_is_told_once() -> None:
    report = limited()
    assert not {"clock", "temperature"} & {name for name, _ in environment_rows(report)}
    assert dict(environment_rows(full_report()))["clock"] == "not measured"
    assert state_table(full_report()).rows == ()


def test_the_limits_table_and_the_layers() -> None:
    report = limited()
    names = Names(report)
    (row,) = limits_table(report, names).rows
    assert tuple(cell.replace(SPACE, " ") for cell in row) == (
        "1. cpu int8", "4.00x", "4.00 ms", "1.00 ms", "50.0", "200.0 M", "10.00 MB", "20.0",
    )  # fmt: skip
    (chart,) = layer_charts(report, names)
    assert len(chart.bars) == 13
    first, last = chart.bars[0], chart.bars[-1]
    assert (first.name, first.at, first.detail) == ("conv19", 100.0, "Conv, kernel_i8")
    assert first.share.replace(SPACE, " ") == "9.5 %"  # 20 of 210
    assert (last.name, last.at, last.time.replace(SPACE, " ")) == ("8 other layers", None, "36 µs")
    shares = [float(bar.share.split(SPACE)[0]) for bar in chart.bars]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_markdown_holds_limits_layers_states_and_warnings() -> None:
    text = render_markdown(limited()).replace(SPACE, " ")
    assert "> ⚠️ the clocks were lowered for heat while this was measured\n> ⚠️ governor is powersave" in text
    assert "| 1. cpu int8 | 4.00x | 4.00 ms | 1.00 ms | 50.0 |" in text
    assert "- cpu int8: conv19 9.5 %, conv18 9.0 %" in text
    assert "| clock | 2500 MHz | 1800 MHz |" in text
    assert "| temperature | 50.0 °C | not measured |" in text
    assert "- INT8 peak: 400.0 GMAC/s" in text
    assert warnings_of(full_report()) == []


def test_the_front_holds_what_no_other_beats() -> None:
    points = [(4.0, 0.80), (2.0, 0.70), (3.0, 0.75), (5.0, 0.79), (2.5, 0.70), (4.0, 0.81)]
    assert charts.pareto(points) == [1, 2, 5]
    assert charts.line_path([(0, 0), (50, 100)]) == "M0.00 100.00L50.00 0.00"
    assert charts.line_path([(0, 0)]) == ""


def test_the_schema_in_the_documents_is_up_to_date() -> None:
    path = ROOT / "docs" / "report.schema.json"
    held = json.loads(path.read_text(encoding="utf-8"))
    regenerate = "regenerate it: python -m edge_unet.measure.report.schema > docs/report.schema.json"
    assert held == report_schema(), regenerate


def test_a_real_report_fits_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    validator = jsonschema.Draft202012Validator(report_schema())
    for report in (limited(), BenchReport(title="t", environment=Environment())):
        value = json.loads(report.model_dump_json())
        assert [error.message for error in validator.iter_errors(value)] == []
    wrong = {**value, "measurments": []}
    assert [error.message for error in validator.iter_errors(wrong)] != []


def test_the_schema_knows_every_field_that_is_written() -> None:
    """Without a validator: no key of a full report is missing from the schema's properties."""
    schema = report_schema()
    value = json.loads(limited().model_dump_json())

    def known(value: Any, node: dict[str, Any], where: str) -> list[str]:
        while "$ref" in node or "anyOf" in node:
            choices = [n for n in node.get("anyOf", ()) if n.get("type") != "null"] or [node]
            node = schema["$defs"][choices[0]["$ref"].rpartition("/")[2]] if "$ref" in choices[0] else choices[0]
        if isinstance(value, list):
            items = node.get("items", {})
            return [x for entry in value[:3] for x in known(entry, items, where)]
        if not isinstance(value, dict) or "properties" not in node:
            return []
        missing = [f"{where}.{key}" for key in value if key not in node["properties"]]
        found = [known(v, node["properties"][k], f"{where}.{k}") for k, v in value.items() if k in node["properties"]]
        return [*missing, *(x for part in found for x in part)]

    assert known(value, schema, "report") == []
