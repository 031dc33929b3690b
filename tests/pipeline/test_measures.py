"""Bundles of every target through verify, evaluate, bench and report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small_road import Road, quiet

from edge_unet.core.bundle import open_bundle
from edge_unet.core.errors import ArtifactError, DataError, UsageError
from edge_unet.core.report import STAND_IN, BenchReport, Schedule, read_report
from edge_unet.core.spec import Precision
from edge_unet.pipeline import bench as bench_module
from edge_unet.pipeline.bench import bench
from edge_unet.pipeline.evaluate import evaluate
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.pipeline.frames import SCENES, frames_from
from edge_unet.pipeline.report import join, write_report
from edge_unet.pipeline.verify import verify
from edge_unet.targets.registry import TARGETS

TINY = Schedule(warmup_runs=1, warmup_ns=0, runs=6, burst=3)


@pytest.mark.parametrize("name", TARGETS)
def test_every_bundle_is_the_same_model(road: Road, bundles: dict[str, Path], name: str) -> None:
    result = verify(bundles[name], road.data, say=quiet)
    assert result.images == 8
    assert result.agreement >= (TARGETS[name].mask_gate or 0.999)
    assert result.scales_equal is True
    assert result.payloads_equal is True
    assert result.offenders == ()
    assert result.int8_layers > result.float_layers
    assert result.dice is not None
    assert result.dice > 0.9
    assert abs(result.dice_delta or 0) <= (TARGETS[name].metric_gate or 0.001)
    assert result.reasons == ()
    assert result.passed


def test_verify_without_data_uses_scenes(bundles: dict[str, Path]) -> None:
    said: list[str] = []
    result = verify(bundles["onnx"], say=said.append)
    assert (result.images, result.dice) == (SCENES, None)
    assert "procedural endoscopy scenes" in said[0]


@pytest.mark.parametrize("name", ["cpu", "ios"])
def test_layers_name_no_bad_one(road: Road, bundles: dict[str, Path], name: str) -> None:
    said: list[str] = []
    result = verify(bundles[name], road.data, layers=True, say=said.append)
    assert result.layers is not None
    assert len(result.layers.rows) == len([line for line in said if " dB " in line])
    assert result.layers.first_bad is None
    assert said[-1].endswith("first bad layer: none")


def test_verify_refuses_a_canonical_graph_that_is_not_the_parent(
    road: Road, bundles: dict[str, Path], tiny_canonical: Path, tmp_path: Path
) -> None:
    """With every hash in the manifest right: the artifact itself says what it was lowered from."""
    copy = tmp_path / "bundle"
    shutil.copytree(bundles["onnx"], copy)
    shutil.copyfile(tiny_canonical, copy / "canonical.onnx")
    manifest = json.loads((copy / "manifest.json").read_text())
    from edge_unet.core.files import sha256_of

    manifest["files"]["canonical.onnx"] = sha256_of(copy / "canonical.onnx")
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="lowered from another canonical graph"):
        verify(copy, road.data, say=quiet)


@pytest.mark.parametrize(
    ("name", "precision"), [("onnx", "fp32"), ("cpu", "fp32"), ("ios", "fp16"), ("jetson", "fp16")]
)
def test_a_float_bundle_is_compared_with_its_float_twin(
    road: Road, bundles: dict[str, Path], tmp_path: Path, name: str, precision: str
) -> None:
    """On frames the network was not trained on quantization itself moves one pixel in a hundred: against the INT8
    graph no float bundle would pass."""
    canonical = bundles["onnx"] / "canonical.onnx"
    (bundle,) = export(canonical, resolve_targets(name), tmp_path, Precision(precision), quiet)
    result = verify(bundle.folder, road.data, say=quiet)
    assert result.reasons == ()
    assert result.reference.endswith("float twin")
    assert (result.scales_equal, result.payloads_equal, result.int8_layers) == (None, None, 0)
    assert result.golden_agreement is not None
    assert result.golden_agreement >= 0.999


def test_bundle_and_checkpoints_score_alike(road: Road, bundles: dict[str, Path]) -> None:
    results = [evaluate(model, road.data, say=quiet) for model in (bundles["cpu"], bundles["ios"], road.ptq, road.fp32)]
    assert {result.images for result in results} == {8}
    assert min(result.dice for result in results) > 0.9
    assert max(abs(result.dice - results[0].dice) for result in results) <= 0.01
    subjects = [result.subject for result in results]
    assert [s.precision.value for s in subjects if s] == ["int8", "int8", "int8", "fp32"]
    assert [s.on_device for s in subjects if s] == [True, False, True, True]
    assert set(results[0].per_class) == {"background", "foreground"}


def test_evaluate_names_every_bad_file(road: Road, bundles: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(road.data / "val", tmp_path / "data")
    names = sorted((tmp_path / "data/masks").iterdir())
    names[0].unlink()
    names[1].write_bytes(b"not a picture")
    with pytest.raises(DataError) as caught:
        evaluate(bundles["onnx"], tmp_path / "data", say=quiet)
    assert len(caught.value.offenders) == 2
    assert names[0].stem in str(caught.value)
    assert names[1].name in str(caught.value)


def test_frames_from_takes_the_val_split(road: Road, bundles: dict[str, Path]) -> None:
    manifest = open_bundle(bundles["onnx"]).manifest
    found = frames_from(road.data, manifest.preprocess, manifest.classes, 3)
    assert found.frames.shape == (3, 64, 64, 3)
    assert found.truths is not None
    assert set(np.unique(found.truths)) == {0, 1}
    with pytest.raises(UsageError, match="no such folder"):
        frames_from(road.data / "nowhere", manifest.preprocess, manifest.classes)


@pytest.fixture(scope="module")
def benched(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BenchReport]:
    out = tmp_path_factory.mktemp("bench") / "deeper/bench.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_module, "RAPID", TINY)
        return out, bench([bundles["cpu"], bundles["ios"]], out, rapid=True, say=quiet)


def test_bench_times_the_float_twins_beside(benched: tuple[Path, BenchReport]) -> None:
    _, report = benched
    model = {m.label for m in report.measurements if m.scope == "model"}
    assert {"cpu int8", "cpu fp32", "onnx fp32"} <= model
    assert model <= {"cpu int8", "cpu fp32", "cpu bf16", "onnx fp32"}
    assert {m.label for m in report.measurements if m.scope == "end_to_end"} == model
    assert all(m.runs == 6 and m.p50_ns > 0 for m in report.measurements)
    assert all(m.peak_rss_bytes for m in report.measurements if m.scope == "model")
    assert [(row.target, row.reason) for row in report.not_measured] == [("ios", STAND_IN)]
    assert report.created is not None


def test_bench_writes_what_it_returns(benched: tuple[Path, BenchReport]) -> None:
    out, report = benched
    assert read_report(out) == report


def test_report_joins_results(
    road: Road, bundles: dict[str, Path], benched: tuple[Path, BenchReport], tmp_path: Path
) -> None:
    path, report = benched
    paths = write_report([path], tmp_path / "report")
    assert sorted(p.name for p in paths.values()) == [
        "bigger.json", "report.csv", "report.html", "report.json", "report.junit.xml", "report.md", "smaller.json",
    ]  # fmt: skip
    assert read_report(paths["json"]) == report
    page = paths["html"].read_text(encoding="utf-8")
    assert "cpu int8" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "cpu int8" in paths["markdown"].read_text(encoding="utf-8")
    verified = report.model_copy(
        update={"measurements": (), "not_measured": (), "verified": (verify(bundles["cpu"], road.data, say=quiet),)}
    )
    joined = join([report, verified])
    assert (len(joined.measurements), len(joined.verified)) == (len(report.measurements), 1)
    other = report.environment.model_copy(update={"cpu_model": "another machine"})
    with pytest.raises(UsageError, match="different machines"):
        join([report, report.model_copy(update={"environment": other})])


def test_two_phones_in_a_browser_are_two_machines(benched: tuple[Path, BenchReport]) -> None:
    untold = {"cpu_model": None, "soc": None}
    phones = [
        benched[1].model_copy(update={"environment": benched[1].environment.model_copy(update={**untold, "os": name})})
        for name in ("Android 16", "iOS 20")
    ]
    assert len(join([phones[0], phones[0]]).measurements) == 2 * len(benched[1].measurements)
    with pytest.raises(UsageError, match="different machines \\(Android 16, iOS 20\\)"):
        join(phones)


def test_report_of_a_damaged_result(benched: tuple[Path, BenchReport], tmp_path: Path) -> None:
    text = benched[0].read_text()
    short = tmp_path / "short.json"
    short.write_text(text[: len(text) // 2])
    with pytest.raises(ArtifactError, match=r"short\.json"):
        write_report([short], tmp_path / "report")
    assert not (tmp_path / "report").exists()
