"""The page and the Markdown say what the report holds, and nothing else."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np
import pytest

from edge_unet.core.artifact import Census, LayerPlacement
from edge_unet.core.report import (
    RAPID,
    STAND_IN,
    BenchReport,
    Environment,
    EvaluateResult,
    LayerRow,
    LayerTable,
    Measurement,
    NotMeasured,
    StageTime,
    Subject,
    VerifyResult,
)  # fmt: skip
from edge_unet.core.spec import ClassSpec, Precision, PreprocessSpec
from edge_unet.frames.overlay import draw_overlay
from edge_unet.measure.report import charts, make_picture, render_html, render_markdown, view
from edge_unet.measure.report.wording import SPACE, Names, milliseconds, score, share

MS = 1_000_000
BINARY = ClassSpec(names=("background", "polyp"), palette=((0, 0, 0), (0, 200, 80)))


def who(target: str = "cpu", precision: Precision = Precision.INT8, **changes: Any) -> dict[str, Any]:
    return {
        "target": target, "precision": precision, "runtime": "runtime 1.0", "bundle": "tiny",
        "artifact_sha256": f"{target}{precision.value}".encode().hex().ljust(64, "0"), **changes,
    }  # fmt: skip


def census(int8: int, fp32: int) -> Census:
    kinds = ["int8"] * int8 + ["fp32"] * fp32
    layers = (LayerPlacement(name=str(i), op="Conv", precision=p, unit="u") for i, p in enumerate(kinds))
    return Census(layers=tuple(layers), source="runtime model")


def timed(milli: float, scope: str = "model", **changes: Any) -> Measurement:
    samples = tuple(round(milli * MS) + n for n in range(100))
    values = {**who(), "scope": scope, "warmup_runs": 10, "samples_ns": samples, **changes}
    return Measurement.model_validate(values)


def checked(**changes: Any) -> VerifyResult:
    values = {
        **who(), "reference": "reference 1.0", "images": 20, "gate": 0.999, "agreement": 0.99975,
        "worst_agreement": 0.9983, "worst_image": 7, "max_lsb": 3.0, "int8_layers": 9, "float_layers": 1,
        "census": census(9, 1), "scales_equal": True, "scales_compared": 31, "payloads_equal": True,
        "payloads_compared": 10, "passed": True, **changes,
    }  # fmt: skip
    return VerifyResult.model_validate(values)


def full_report() -> BenchReport:
    stages = {
        "draw": StageTime(p50_ns=MS, p90_ns=MS), "infer": StageTime(p50_ns=4 * MS, p90_ns=5 * MS),
        "postprocess": StageTime(p50_ns=MS, p90_ns=MS), "preprocess": StageTime(p50_ns=2 * MS, p90_ns=2 * MS),
    }  # fmt: skip
    fp32 = who(precision=Precision.FP32)
    return BenchReport(
        title="tiny <script>alert(1)</script>",
        environment=Environment(cpu_model="Test CPU", threads=1, amx=False),
        schedule=RAPID,
        burst_order=("cpu fp32", "cpu int8") * 3,
        measurements=(
            timed(12.0, **fp32), timed(4.0, peak_rss_bytes=123_400_000, census=census(9, 1)),
            timed(8.0, "end_to_end", stage_ns=stages),
        ),
        not_measured=(NotMeasured(target="ios", precision=Precision.INT8, reason=STAND_IN),),
        verified=(
            checked(),
            checked(
                **who("ios", on_device=False), agreement=0.97, passed=False, reasons=("mask agreement 97 %",),
                scales_equal=False, offenders=("activation a.q: scale", "activation b.q: scale"), forced_max_lsb=2,
                layers=LayerTable(
                    rows=(LayerRow(name="a.q", sqnr_db=float("inf"), cosine=1, max_lsb=0, equal=1),), forced=False,
                    first_bad="b.q",
                ),
            ),
        ),
        evaluated=(
            EvaluateResult(dice=0.84321, iou=0.75, per_class={"polyp": None}, images=20, subject=Subject(**who())),
            EvaluateResult(dice=0.85, iou=0.76, per_class={"polyp": 0.7}, images=20, subject=Subject(**fp32)),
        ),
    )  # fmt: skip


class Text(HTMLParser):
    """The visible text, and every attribute that could load something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.sources: list[str] = []
        self.stack: list[str] = []
        self.feed(page)
        self.text = " ".join(" ".join(self.words).replace(SPACE, " ").split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.stack = [*self.stack, tag] if tag == "style" else self.stack
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]

    def handle_endtag(self, tag: str) -> None:
        self.stack = self.stack[:-1] if tag == "style" else self.stack

    def handle_data(self, data: str) -> None:
        if not self.stack:
            self.words.append(data)


def test_the_page_says_what_was_measured() -> None:
    text = Text(render_html(full_report())).text
    assert "1 of 2 accuracy gates failed" in text
    assert "3.0x cpu int8 against cpu fp32, its fastest float here, p90" in text
    assert "4.00 ms p90 of one frame, cpu int8, model only" in text
    assert "8.00 ms p90 frame to overlay, cpu int8: 125 frames/s" in text
    assert "97.000 % of pixels as the reference, lowest of 2 (ios int8)" in text
    assert "0.8432 Dice, cpu int8, 20 images" in text
    assert "preprocess 2.00 ms infer 4.00 ms postprocess 1.00 ms draw 1.00 ms" in text  # in the order of the road
    assert "9 int8 1 fp32" in text
    assert "9 of 10 in INT8" in text
    assert "123 MB" in text
    assert "first bad layer b.q" in text
    assert "6 bursts ran in the order: cpu fp32, cpu int8, cpu fp32, cpu int8, …" in text
    assert "Every row ran on this machine (Test CPU)" in text


def test_what_was_not_measured_says_so() -> None:
    text = Text(render_html(full_report())).text
    assert re.search(r"ios int8 not measured: " + re.escape(STAND_IN), text)
    assert "governor not measured" in text
    assert "VNNI not measured" in text
    assert "AMX INT8 no" in text
    empty = Text(render_html(BenchReport(title="t", environment=Environment()))).text
    assert "Accuracy gates: not measured" in empty
    assert "Latency, memory and energy: not measured." in empty
    assert "0 ms" not in empty


def test_a_row_without_its_hardware_is_labelled_wherever_it_stands() -> None:
    report = full_report()
    text = Text(render_html(report)).text
    assert text.count(STAND_IN) == 5  # latency, gate, agreement, census, all numbers
    cpu_only = report.model_copy(update={"verified": report.verified[:1], "not_measured": ()})
    assert STAND_IN not in render_html(cpu_only)


def test_the_page_is_self_contained_and_escapes_text() -> None:
    report = full_report()
    frame = np.zeros((8, 8, 3), np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    picture = make_picture("p", frame, {"cpu int8": mask}, BINARY, PreprocessSpec(height=8, width=8))
    page = render_html(report.model_copy(update={"pictures": (picture,)}))
    parsed = Text(page)
    loaded = [source for source in parsed.sources if not source.startswith("#")]
    assert len(loaded) == 2
    assert all(source.startswith("data:image/png;base64,") for source in loaded)
    assert "<script" not in page
    assert "url(" not in page
    assert "http" not in page
    assert "tiny <script>alert(1)</script>" in parsed.text  # shown, not run


def test_markdown_tables_hold_the_same_numbers() -> None:
    report = full_report().model_copy(update={"notes": ("a | b",)})
    lines = render_markdown(report).replace(SPACE, " ").splitlines()
    assert lines[0] == "# tiny &lt;script>alert(1)&lt;/script>"
    assert "- **3.0x** cpu int8 against cpu fp32, its fastest float here, p90" in lines
    row = next(line for line in lines if line.startswith("| cpu int8 | model |"))
    assert row == (
        "| cpu int8 | model | 4.00 ms | 4.00 ms | 4.00 ms | 4.00 ms | 100 + 10 warm-up | 123 MB | not measured |"
    )
    assert f"- **FAIL** ios int8: agreement 97.000 %, at least 99.900 % asked, 20 images _{STAND_IN}_" in lines
    assert any(line.startswith(f"| ios int8; {STAND_IN} | model | not measured |") for line in lines)
    assert "> a \\| b" in lines


def test_two_bundles_with_one_label_are_told_apart() -> None:
    report = full_report()
    other = timed(2.0, **who(bundle="small"))
    names = Names(report.model_copy(update={"measurements": (*report.measurements, other)}))
    assert names.of(other) == "small cpu int8"
    assert names.of(report.measurements[1]) == "tiny cpu int8"
    assert names.of(report.measurements[0]) == "cpu fp32"


def test_the_gain_is_that_of_the_fastest_row_over_its_fastest_float() -> None:
    model = [
        timed(40.0, **who("slow", Precision.FP32)), timed(4.0, **who("slow")),
        timed(9.0, **who(precision=Precision.FP32)), timed(6.0, **who(precision=Precision.BF16)), timed(3.0),
    ]  # fmt: skip
    report = BenchReport(title="t", environment=Environment(), measurements=tuple(model))
    values = [h.value for h in view.headlines(report, Names(report))]
    assert "2.0x" in values  # 6 / 3, neither 9 / 3 nor 40 / 4


def test_quality_joins_latency_by_artifact_and_precision() -> None:
    report = full_report()
    found = view.dice_against_latency(report, Names(report))
    assert found is not None
    assert [(r.name, r.dice, r.on_front) for r in found.rows] == [
        ("cpu fp32", "0.8500", True), ("cpu int8", "0.8432", True),
    ]  # fmt: skip
    assert found.y.percent(0.85) > found.y.percent(0.84321)
    fast, slow = sorted(found.dots, key=lambda dot: dot.x)
    assert found.path == f"M{fast.x:.2f} {100 - fast.y:.2f}L{slow.x:.2f} {100 - slow.y:.2f}"


def test_axes() -> None:
    linear = charts.zero_axis(10.0)
    assert linear.percent(0) == 0
    assert linear.percent(5.2) == pytest.approx(50)
    assert [tick.label for tick in linear.ticks(" ms")] == ["0 ms", "2.5 ms", "5 ms", "7.5 ms", "10 ms"]
    log = charts.padded_log_axis([1.0, 100.0])
    assert log.percent(10.0) == pytest.approx(50)
    assert [tick.label for tick in log.ticks("", 5)][:3] == ["1", "3", "10"]
    single = charts.padded_log_axis([7.0])
    assert single.high / single.low >= 2


def test_the_spread_path_peaks_where_the_samples_are() -> None:
    samples = [100] * 90 + [104] * 10
    axis = charts.spread_axis([samples])
    points = [tuple(map(float, p.split())) for p in re.findall(r"[\d.]+ [\d.]+", charts.spread_path(samples, axis))]
    top = min(points[1:-1], key=lambda p: p[1])
    assert top[0] == pytest.approx(axis.percent(1.0), abs=1.5)
    near = min(points[1:-1], key=lambda p: abs(p[0] - axis.percent(1.04)))
    assert near[1] == pytest.approx(100 - 94 / 9, abs=1)  # a ninth of the peak


def test_words() -> None:
    assert [milliseconds(v).replace(SPACE, " ") for v in (87_400, 1_049_000, 31_700_000, 627_000_000)] == [
        "0.087 ms", "1.05 ms", "31.7 ms", "627 ms",
    ]  # fmt: skip
    assert share(0.9999999).replace(SPACE, " ") == "99.999 %"  # not 100: some pixel differs
    assert share(1.0).replace(SPACE, " ") == "100 %"
    assert (score(None), share(None), milliseconds(None)) == ("not measured",) * 3


def test_a_picture_is_the_overlay_and_counts_agreement() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
    reference = np.zeros((16, 16), np.uint8)
    reference[4:12, 4:12] = 1
    mask = reference.copy()
    mask[0, :4] = 1
    picture = make_picture(
        "p",
        frame,
        {"cpu int8": mask},
        BINARY,
        PreprocessSpec(height=16, width=16),
        truth=reference,
        reference=reference,
    )
    assert picture.agreement == {"cpu int8": 1 - 4 / 256}

    def decoded(png: str) -> np.ndarray[Any, Any]:
        return np.asarray(cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_COLOR))[..., ::-1]

    assert np.array_equal(decoded(picture.frame_png), frame)
    assert np.array_equal(decoded(picture.masks_png["cpu int8"]), draw_overlay(frame, mask, BINARY))
    assert picture.truth_png is not None


def test_an_overlay_mixes_only_the_mask() -> None:
    frame = np.full((2, 2, 3), 100, np.uint8)
    mask = np.array([[0, 1], [255, 0]], np.uint8)
    drawn = draw_overlay(frame, mask, BINARY.model_copy(update={"ignore_value": 255}))
    assert drawn[0, 1].tolist() == [50, 150, 90]
    assert drawn[0, 0].tolist() == drawn[1, 0].tolist() == [100, 100, 100]
    bgr = np.dstack([np.full((2, 2), v, np.uint8) for v in (10, 20, 30)])
    assert draw_overlay(bgr, mask, BINARY, "BGR")[0, 0].tolist() == [30, 20, 10]
    assert draw_overlay(frame[..., :1], mask, BINARY, "GRAY").shape == (2, 2, 3)
