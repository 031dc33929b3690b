"""`bench --device`: the whole road on this machine, through the packed runner, and what stops it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_unet.core.bundle import open_bundle
from edge_unet.core.errors import AccuracyGateError, ArtifactError, MissingBackendError, UsageError
from edge_unet.core.files import sha256_of
from edge_unet.core.report import Measurement, Schedule, read_report
from edge_unet.devices.device import DeviceError
from edge_unet.devices.job import write_job
from edge_unet.devices.result import read_result
from edge_unet.frames import read_mask, write_png
from edge_unet.measure.bench import Candidate, bench
from edge_unet.pipeline import remote
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.pipeline.remote import bench_on, job_subjects
from edge_unet.targets.registry import TARGETS

QUICK = Schedule(warmup_runs=2, warmup_ns=0, runs=12, limit_ns=2_000_000_000)


@pytest.fixture(scope="module")
def tiny(tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Target -> bundle."""
    targets = [t for name in ("cpu", "android", "jetson", "ios") for t in resolve_targets(name)]
    bundles = export(tiny_canonical, targets, tmp_path_factory.mktemp("bundles"), say=lambda line: None)
    return {b.manifest.artifact.target: b.folder for b in bundles}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few runs, and rooms in a folder that can be looked at."""
    monkeypatch.setattr(remote, "RAPID", QUICK)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


def quiet(line: str) -> None:
    pass


def test_a_bundle_is_timed_beside_its_twins(tiny: dict[str, Path], tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "report.json"
    report = bench_on("local", [tiny["cpu"], tiny["ios"]], out, rapid=True, threads=2, say=said.append)
    assert read_report(out) == report
    rows = {m.label: m for m in report.measurements}
    assert {"cpu int8", "cpu fp32", "onnx fp32"} <= set(rows) <= {"cpu int8", "cpu fp32", "cpu bf16", "onnx fp32"}
    assert all((m.runs, m.warmup_runs, m.scope, m.on_device) == (12, 2, "model", True) for m in rows.values())
    assert rows["cpu int8"].artifact_sha256 == open_bundle(tiny["cpu"]).manifest.artifact.sha256
    assert rows["cpu int8"].runtime.startswith("openvino 20")
    assert rows["cpu int8"].peak_rss_bytes is None or rows["cpu int8"].peak_rss_bytes > 2**24
    assert report.not_measured[0].target == "ios"
    assert report.burst_order == (*[f"tiny {m.label}" for m in report.measurements],) * 3
    assert (report.environment.device, report.environment.threads) == ("local", 2)
    assert report.environment.before is not None
    assert report.environment.after is not None
    assert "numpy" in report.environment.packages
    assert any("golden frames on the device: tiny cpu int8 agrees in 1" in note for note in report.notes)
    assert any(line.startswith("local: tiny cpu int8: openvino") for line in said)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_its_rows_have_the_schema_of_a_local_benchmark(tiny: dict[str, Path], tmp_path: Path) -> None:
    report = bench_on("local", [tiny["android"]], tmp_path / "report.json", rapid=True, say=quiet)
    candidate = Candidate(open_bundle(tiny["android"]), TARGETS["android"])
    frame = np.zeros((64, 64, 3), np.uint8)
    local = bench([candidate], frame, schedule=QUICK, with_end_to_end=False)
    (there,) = [m for m in report.measurements if m.label == "android int8"]
    (here,) = local.measurements
    assert (there.runtime, there.artifact_sha256, there.bundle) == (here.runtime, here.artifact_sha256, here.bundle)
    assert set(known(there)) == set(known(here)) - {"census"}
    assert set(report.model_dump()) == set(local.model_dump())
    environments = [set(r.environment.model_dump(exclude_none=True)) for r in (report, local)]
    assert environments[1] - environments[0] == set()


def known(measurement: Measurement) -> dict[str, Any]:
    return measurement.model_dump(exclude_none=True)


def test_a_golden_frame_that_disagrees_stops_it(tiny: dict[str, Path], tmp_path: Path) -> None:
    """A stale mask in the bundle, its hash put right: the device says another thing."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny["android"], folder)
    mask = read_mask(folder / "golden/01.mask.png")
    mask[:8] ^= 1
    write_png(folder / "golden/01.mask.png", mask)
    values = json.loads((folder / "manifest.json").read_text())
    values["files"]["golden"] = sha256_of(folder / "golden")
    (folder / "manifest.json").write_text(json.dumps(values))
    words = r"local: golden masks disagree on the device: tiny android int8 9[0-9.]+% \(worst: frame 1\), gate 99.9000%"
    with pytest.raises(AccuracyGateError, match=words) as caught:
        bench_on("local", [folder], tmp_path / "report.json", rapid=True, say=quiet)
    assert caught.value.exit_code == 3
    assert not (tmp_path / "report.json").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_names_in_a_bundle_are_only_names(tiny: dict[str, Path], tmp_path: Path) -> None:
    name = "-x $(touch pwned) 'a\" ;b`touch pwned`.tflite"
    folder = tmp_path / "-rf $(touch pwned) 'b\""
    shutil.copytree(tiny["android"], folder)
    values = json.loads((folder / "manifest.json").read_text())
    (folder / values["artifact"]["path"]).rename(folder / name)
    values["files"][name] = values["files"].pop(values["artifact"]["path"])
    values["artifact"]["path"] = name
    (folder / "manifest.json").write_text(json.dumps(values))
    report = bench_on("local", [folder], tmp_path / "report.json", rapid=True, say=quiet)
    assert "android int8" in {m.label for m in report.measurements}
    assert not list(tmp_path.rglob("pwned"))


def test_a_jetson_bundle_without_tensorrt_says_what_to_install(tiny: dict[str, Path], tmp_path: Path) -> None:
    """The kit's own build.py runs there and tells; nothing of it is left."""
    said: list[str] = []
    with pytest.raises(MissingBackendError, match=r"local: tiny jetson: build.py ended with 5: .*TensorRT's Python"):
        bench_on("local", [tiny["jetson"]], tmp_path / "report.json", rapid=True, say=said.append)
    assert any("tiny jetson: error: TensorRT's Python bindings are missing" in line for line in said)
    assert not (tmp_path / "report.json").exists()


def test_what_no_runner_opens_is_refused_before_anything_is_sent(tiny: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to run there: ios: the runner for devices opens cpu, android"):
        bench_on("ssh://no.such.host.invalid", [tiny["ios"]], tmp_path / "report.json", say=quiet)
    with pytest.raises(UsageError, match="expected local, ssh"):
        bench_on("orin", [tiny["cpu"]], tmp_path / "report.json", say=quiet)
    with pytest.raises(UsageError, match="phone"):
        bench_on("adb://R5CT", [tiny["cpu"]], tmp_path / "report.json", say=quiet)
    with pytest.raises(UsageError, match="not a bundle"):
        bench_on("local", [tmp_path], tmp_path / "report.json", say=quiet)


def test_two_models_of_one_name_are_told_apart(
    tiny: dict[str, Path], tiny_canonical_multiclass: Path, tmp_path: Path
) -> None:
    (other,) = export(tiny_canonical_multiclass, resolve_targets("cpu"), tmp_path / "b", say=quiet)
    with pytest.raises(UsageError, match="two bundles have the same name, target and precision: tiny cpu int8"):
        job_subjects([open_bundle(tiny["cpu"]), other], tmp_path / "twins")


def test_an_artifact_that_arrives_damaged_is_not_timed(tiny: dict[str, Path], tmp_path: Path) -> None:
    subjects, _ = job_subjects([open_bundle(tiny["android"])], tmp_path / "twins")
    (tmp_path / "job").mkdir()
    write_job(subjects, QUICK.model_dump(), 1, tmp_path / "job")
    artifact = tmp_path / "job/artifacts/00"
    artifact.write_bytes(artifact.read_bytes()[:-1])
    from edge_unet.devices.runner import bench as runner
    from edge_unet.devices.runner.errors import RunnerError

    with pytest.raises(RunnerError, match="tiny android: arrived damaged: sha256"):
        runner.run(tmp_path / "job/job.json", tmp_path / "job/result.json", Path("unused"), quiet)
    assert not (tmp_path / "job/result.json").exists()


def test_a_result_about_something_else_is_refused(tmp_path: Path) -> None:
    row = {
        "subject": 0, "sha256": "a" * 64, "precision": "int8", "runtime": "r", "golden": [1.0], "layers": None,
        "warmup_runs": 1, "samples_ns": [1], "stages_ns": {}, "peak_rss_bytes": None, "energy_mj": None,
        "energy_source": None,
    }  # fmt: skip
    values = {"schema": 1, "environment": {}, "burst_order": ["x"], "rows": [row], "skipped": []}
    path = tmp_path / "result.json"
    path.write_text(json.dumps(values))
    assert read_result(path, "ssh://orin", ["a" * 64]).rows[0].samples_ns == (1,)
    with pytest.raises(DeviceError, match=r"ssh://orin: .*another artifact: sha256 expected bbbbbbbbbbbb…"):
        read_result(path, "ssh://orin", ["b" * 64])
    path.write_text(json.dumps({**values, "rows": []}))
    with pytest.raises(DeviceError, match=r"damaged .*rows"):
        read_result(path, "ssh://orin", ["a" * 64])
    path.write_text(json.dumps(values)[:-9])
    with pytest.raises(DeviceError, match="damaged"):
        read_result(path, "ssh://orin", ["a" * 64])


def test_a_damaged_bundle_is_found_before_the_device_is_asked(tiny: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(tiny["android"], tmp_path / "b")
    (tmp_path / "b/canonical.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match="sha256"):
        bench_on("ssh://no.such.host.invalid", [tmp_path / "b"], tmp_path / "report.json", say=quiet)
