"""bench_coreml.py in an interpreter of its own, with a stand-in for coremltools, and the import of what it writes."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from devices.coremltools_stand_in import write_stand_in
from small_road import quiet

from edge_unet.core.bundle import Bundle, open_bundle, write_manifest
from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.files import bytes_of, sha256_of
from edge_unet.core.report import FULL, RAPID, read_report, write_report
from edge_unet.core.spec import Precision, TensorSpec
from edge_unet.devices.imported import read_imported
from edge_unet.devices.mac import bench_coreml
from edge_unet.pipeline.export import export, resolve_targets

SCRIPT = Path(bench_coreml.__file__)


def as_ios(source: Bundle, folder: Path, precision: Precision = Precision.INT8) -> Bundle:
    """The same bundle with a package in the place of its model: what export --target ios would write, but for the
    package's content, which no test here looks into (and making a real one takes coremltools half a minute)."""
    shutil.copytree(source.folder, folder)
    (folder / source.manifest.artifact.path).unlink()
    package = folder / f"model-{precision.value}.mlpackage"
    (package / "Data/deep").mkdir(parents=True)
    (package / "Manifest.json").write_text("{}")
    (package / "Data/deep/weight.bin").write_bytes(precision.value.encode())
    artifact = source.manifest.artifact
    height, width = artifact.inputs[0].shape[1:3]
    grid = {"scale": 1 / 64, "zero_point": 128}
    changed = artifact.model_copy(
        update={
            "path": package.name, "sha256": sha256_of(package), "bytes": bytes_of(package), "target": "ios",
            "precision": precision,
            "inputs": (TensorSpec(name="image", shape=(1, height, width, 3), dtype="uint8", layout="NHWC", **grid),),
            "outputs": (TensorSpec(name="logits", shape=(1, 1, height, width), dtype="float32", layout="NCHW"),),
        }
    )  # fmt: skip
    files = {n: sha for n, sha in source.manifest.files.items() if n != artifact.path}
    update = {"artifact": changed, "files": {**files, package.name: changed.sha256}}
    write_manifest(folder, source.manifest.model_copy(update=update))
    return open_bundle(folder)


@pytest.fixture(scope="module")
def ios(tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    """INT8 and FP16."""
    room = tmp_path_factory.mktemp("ios")
    (android,) = export(tiny_canonical, resolve_targets("android"), room, say=quiet)
    return as_ios(android, room / "my int8"), as_ios(android, room / "fp16", Precision.FP16)


@pytest.fixture(scope="module")
def stand_in(ios: tuple[Bundle, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stand_in(tmp_path_factory.mktemp("stand_in"), ios[0].manifest.census.layers[0].name)


Mac = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def mac(stand_in: Path, tmp_path_factory: pytest.TempPathFactory) -> Mac:
    """Run the script as on a Mac: copied away from edge_unet, which cannot be imported there."""
    script = tmp_path_factory.mktemp("mac") / "bench_coreml.py"
    shutil.copyfile(SCRIPT, script)
    script.with_name("edge_unet.py").write_text("raise ImportError('edge_unet is not on the Mac')\n")

    def run(*arguments: str | Path, how: str = "", path: Path = stand_in) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(path), "STAND_IN": how, "OMP_NUM_THREADS": "1"}
        line = [sys.executable, str(script), *map(str, arguments)]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, env=environment)

    return run


@pytest.fixture(scope="module")
def result(mac: Mac, ios: tuple[Bundle, Bundle], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("result") / "coreml.json"
    folders = [bundle.folder for bundle in ios]
    done = mac(*folders, "--rapid", "--compute-units", "cpu+ne", "--out", out)
    assert done.returncode == 0, done.stderr
    assert "tiny ios int8: 4 of 4 golden masks equal, 100.000% of pixels" in done.stdout
    return out


def test_the_script_measures_and_its_result_is_imported(
    result: Path, ios: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    report = read_imported(result, *ios)
    int8, fp16 = report.measurements
    assert (int8.target, int8.precision, int8.runs, fp16.precision) == ("ios", Precision.INT8, 64, Precision.FP16)
    assert int8.runtime == "Core ML on Mac, CPU and Neural Engine; coremltools 9.0-stand-in"
    assert int8.warmup_runs >= 10
    assert all(1_000_000 < sample < 1_900_000 for sample in int8.samples_ns)  # Core ML's own clock, not the wall's
    assert report.schedule == RAPID
    assert [label.split()[-1] for label in report.burst_order] == ["int8", "fp16"] * 13
    assert (report.environment.device, report.environment.throttled) == ("mac", None)
    assert int8.census is not None
    assert int8.census.layers[0].unit.startswith("Neural Engine, ")
    assert int8.census.layers[1].unit.endswith(", not in the plan")
    assert len(int8.census.layers) == len(ios[0].manifest.census.layers)
    assert "4 of 4 golden masks equal there, 100.000%" in report.notes[0]
    assert report.notes[1].endswith("Core ML's own time of the prediction; operations: 1 on CPU, 1 on Neural Engine")
    assert report.verified == ()
    write_report(tmp_path / "report.json", report)
    assert read_report(tmp_path / "report.json") == report


def edited(path: Path, into: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    content = json.loads(path.read_text())
    edit(content)
    into.write_text(json.dumps(content))
    return into


EDITS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "quantile": (lambda c: c["results"][0]["quantiles_ns"].update(p50=1), r"p50 is 1 but samples_ns give \d{7}"),
    "no samples": (lambda c: c["results"][0].update(samples_ns=[]), "samples_ns: Tuple should have at least 1"),
    "negative": (lambda c: c["results"][0]["samples_ns"].append(-5), "a sample of -5 ns is no time"),
    "sha256": (
        lambda c: c["results"][0].update(artifact_sha256="0" * 64),
        "with sha256 000000000000, received my int8",
    ),
    "precision": (lambda c: c["results"][0].update(precision="fp16"), r"says ios fp16 of .*, which is ios int8"),
    "unknown key": (lambda c: c.update(extra=1), "extra: Extra inputs are not permitted"),
    "another format": (lambda c: c.update(format="other"), "format: Input should be 'edge_unet bench_coreml'"),
    "newer": (lambda c: c.update(format_version=2), "format_version: Input should be 1"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_result_that_cannot_be_true_is_refused(
    result: Path, ios: tuple[Bundle, Bundle], tmp_path: Path, name: str
) -> None:
    edit, said = EDITS[name]
    with pytest.raises(ArtifactError, match=said):
        read_imported(edited(result, tmp_path / "changed.json", edit), *ios)


def test_what_is_no_result_of_the_script(ios: tuple[Bundle, Bundle], result: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the result: No such file"):
        read_imported(tmp_path / "none.json", *ios)
    (tmp_path / "half.json").write_bytes(result.read_bytes()[:500])
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    for name in ("half.json", "binary.json"):
        with pytest.raises(ArtifactError, match=f"{name}: not a result of bench_coreml.py"):
            read_imported(tmp_path / name, *ios)
    with pytest.raises(ArtifactError, match="give the bundle that was copied to the Mac"):
        read_imported(result, ios[0])
    one = edited(result, tmp_path / "one.json", lambda c: c["results"].pop())
    assert len(read_imported(one, ios[0]).measurements) == 1
    with pytest.raises(UsageError, match=r"holds no result of .*fp16"):
        read_imported(one, *ios)


def test_the_state_of_the_mac_becomes_warnings(result: Path, ios: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    def edit(content: dict[str, Any]) -> None:
        content["before"] = {"power": "battery", "low_power_mode": True, "cpu_speed_limit": 100}
        content["after"] = {"power": "battery", "low_power_mode": True, "cpu_speed_limit": 72}
        content["results"][0]["golden"].update(agreement=0.9, worst_agreement=0.8, worst_image=3)
        content["iphone_os"] = "iOS 19.1"

    environment = read_imported(edited(result, tmp_path / "hot.json", edit), *ios).environment
    assert (environment.power_mode, environment.throttled) == ("battery", True)
    assert (environment.os or "").startswith("iOS 19.1, by way of ")
    assert environment.warnings == (
        "the Mac runs on battery",
        "low power mode is on",
        "the CPU's speed was limited for heat (72 %)",
        "ios int8: only 90.000% of the golden masks' pixels are the reference's (worst: image 3, 80.000%)",
    )


def test_wrong_masks_are_seen_on_the_mac(mac: Mac, ios: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    done = mac(ios[0].folder, "--rapid", "--out", tmp_path / "r.json", how="wrong")
    assert done.returncode == 0
    assert "0 of 4 golden masks equal" in done.stdout
    assert any(
        "of the golden masks' pixels" in w for w in read_imported(tmp_path / "r.json", ios[0]).environment.warnings
    )


def test_without_core_mls_clock_the_call_is_timed(mac: Mac, ios: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    assert mac(ios[0].folder, "--rapid", "--out", tmp_path / "r.json", how="no clock").returncode == 0
    found = json.loads((tmp_path / "r.json").read_text())["results"][0]
    assert found["clock"] == "time of predict() from Python, conversions included"
    assert len(set(found["samples_ns"])) > 10


def test_what_the_script_refuses(mac: Mac, ios: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    def refused(*arguments: str | Path, how: str = "", path: Path | None = None) -> tuple[int, str]:
        out = tmp_path / "r.json"
        options: dict[str, Any] = {"how": how} if path is None else {"how": how, "path": path}
        done = mac(*arguments, "--out", out, **options)
        assert not out.exists()
        assert list(tmp_path.glob(".r.json*")) == []
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    assert refused(tmp_path)[0] == 2
    assert "not a bundle" in refused(tmp_path)[1]
    shutil.copytree(ios[0].folder, tmp_path / "copy")
    (tmp_path / "copy/model-int8.mlpackage/.DS_Store").write_bytes(b"x")
    code, said = refused(tmp_path / "copy")
    assert (code, "Finder adds .DS_Store" in said) == (1, True)
    shutil.copytree(ios[0].folder, tmp_path / "twice")
    code, said = refused(ios[0].folder, tmp_path / "twice")
    assert (code, "a second bundle called tiny ios int8" in said) == (2, True)
    code, said = refused(ios[0].folder, how="refuses")
    assert (code, "Core ML cannot open the package: Error compiling model" in said) == (1, True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/coremltools.py").write_text("raise ImportError('absent')\n")
    code, said = refused(ios[0].folder, path=tmp_path / "empty")
    assert (code, "python3 -m pip install coremltools pillow numpy" in said) == (5, True)
    assert refused(ios[0].folder, "--compute-units", "gpu")[0] == 2


def test_the_protocol_of_the_script_is_ours() -> None:
    assert FULL.model_dump() == bench_coreml.FULL
    assert RAPID.model_dump() == bench_coreml.RAPID
    now = 0

    def clock() -> int:
        return now

    def take(cost: int) -> Callable[[], int]:
        def run() -> int:
            nonlocal now
            now += cost
            return cost

        return run

    schedule = {"warmup_runs": 3, "warmup_ns": 100, "runs": 12, "limit_ns": 1000, "burst": 5, "discarded": 1}
    results, order = bench_coreml.measure({"a": take(10), "b": take(100)}, schedule, clock)
    assert (results["a"]["warmup_runs"], results["b"]["warmup_runs"]) == (10, 3)
    assert results["a"]["samples_ns"] == [10] * 12
    assert results["b"]["samples_ns"] == [100] * 10  # 1000 ns are up
    assert order == ["a", "b", "a", "b", "a"]
    assert bench_coreml.quantiles([5, 1, 4, 2, 3]) == {"p50": 3, "p90": 5, "p99": 5}


def test_the_script_is_for_old_pythons_and_says_what_it_never_saw() -> None:
    source = SCRIPT.read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert not names & {"edge_unet", "pydantic", "cv2", "torch"}
    assert "THE AUTHORS NEVER RAN IT ON A MAC" in (ast.get_docstring(tree) or "")
