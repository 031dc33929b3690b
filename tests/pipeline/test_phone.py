"""A whole benchmark on a phone: the real adb client, a sandbox that speaks adbd's side, and LiteRT of this machine as
benchmark_model. Emulated: the times are this machine's, only the road is that of a phone."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from devices.adb_server import Faults, Phone, own_adb_server
from devices.sandbox_phone import furnish, write_program
from small_road import quiet

from edge_unet.core.bundle import Bundle, open_bundle, write_manifest
from edge_unet.core.errors import UsageError
from edge_unet.core.report import BenchReport, Schedule, read_report
from edge_unet.core.spec import Precision
from edge_unet.devices import adb as adb_module
from edge_unet.devices.device import DeviceError
from edge_unet.pipeline import phone as phone_module
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.pipeline.phone import bench_on_phone

pytestmark = pytest.mark.skipif(shutil.which("adb") is None, reason="adb is not installed: apt-get install adb")
LOST = "connection was lost while|offline: it does not answer"
"""Which of the two depends on whether adb's server hears of the broken link before the next command does."""
TINY = Schedule(warmup_runs=2, warmup_ns=0, runs=150)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_adb_server(tmp_path_factory.mktemp("home")):
        yield


@contextmanager
def sandbox(root: Path) -> Iterator[Phone]:
    with Phone(root) as phone:
        furnish(root)
        subprocess.run(["adb", "connect", phone.address], capture_output=True, check=True, timeout=30)
        try:
            yield phone
        finally:
            subprocess.run(["adb", "disconnect", phone.address], capture_output=True, check=False, timeout=30)


@pytest.fixture
def phone(server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    monkeypatch.setattr(phone_module, "RAPID", TINY)
    monkeypatch.setattr(adb_module, "_RETURN_S", 1.0)
    with sandbox(tmp_path / "phone") as phone:
        yield phone


@pytest.fixture(scope="module")
def android(tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    (bundle,) = export(tiny_canonical, resolve_targets("android"), tmp_path_factory.mktemp("tiny"), say=quiet)
    return bundle


@pytest.fixture(scope="module")
def floating(tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """FP32: has no twin, so it takes half the calls."""
    room = tmp_path_factory.mktemp("tiny_fp32")
    return export(tiny_canonical, resolve_targets("android"), room, Precision.FP32, quiet)[0]


def run(phone: Phone, bundle: Bundle, folder: Path, program: Path | None = None) -> BenchReport:
    program = program or write_program(folder / "my benchmark $(touch pwned)")
    return bench_on_phone(
        f"adb://{phone.address}", [bundle.folder], folder / "bench.json", benchmark_model=program, rapid=True, say=quiet
    )


@pytest.fixture(scope="module")
def benched(server: None, android: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BenchReport, Phone]:
    """One run on a phone that is hot, empty and saving, of a bundle and a program with hostile names."""
    folder = tmp_path_factory.mktemp("whole")
    moved = folder / "it's a $(touch pwned) -folder"
    shutil.copytree(android.folder, moved)
    with pytest.MonkeyPatch.context() as patch, sandbox(folder / "phone") as phone:
        patch.setattr(phone_module, "RAPID", TINY)
        furnish(phone.root, thermal_status=2, charging=False, saver=True)
        return folder, run(phone, open_bundle(moved), folder), phone


@pytest.mark.slow
def test_a_whole_bench(benched: tuple[Path, BenchReport, Phone], android: Bundle) -> None:
    folder, report, phone = benched
    assert read_report(folder / "bench.json") == report
    assert [m.precision for m in report.measurements] == [Precision.INT8, Precision.FP32]
    for m in report.measurements:
        assert (m.target, m.runs, m.scope, m.energy_mj) == ("android", 3, "model", None)
        assert m.runtime.endswith("XNNPACK, each sample the mean of 50 runs")
        assert m.warmup_runs == 6
        assert 1000 < m.p50_ns < 10**9
        assert (m.peak_rss_bytes or 0) > 2**20
        assert m.census is not None
        assert m.census.source == "benchmark_model on the phone: XNNPACK runs the whole graph"
    assert [label.split()[-1] for label in report.burst_order] == ["int8", "fp32"] * 3
    assert report.measurements[0].artifact_sha256 == android.manifest.artifact.sha256
    assert phone.left == []
    assert not list(folder.rglob("pwned"))
    assert not any("touch" in command for command in phone.commands)


@pytest.mark.slow
def test_what_the_report_says_of_the_phone(benched: tuple[Path, BenchReport, Phone]) -> None:
    folder, report, phone = benched
    found = report.environment
    assert (found.device, found.soc, found.os) == ("adb", "SM8650 (QTI)", "Android 14")
    assert (found.cpu_model, found.kernel, found.machine) == ("Emulated Sandbox 8", "6.1.75-android14", "aarch64")
    assert (found.governor, found.mhz, found.temperature_c, found.threads) == ("schedutil, walt", 2900.0, 41.5, 1)
    assert (found.cores_used, found.bf16, found.memory_bytes) == (5, True, 11_618_904 * 1024)
    assert (found.power_mode, found.throttled) == ("battery", True)
    assert found.after is not None
    assert found.after.temperature_c == 41.5
    assert found.warnings == (
        "the battery saver is on; it lowers clocks",
        "thermal status is 2 (moderate); let the phone cool down",
        "the phone runs on battery",
    )
    assert found.packages["benchmark_model"].startswith("sha256 ")
    text = (folder / "bench.json").read_text()
    assert "R5SECRET" not in text
    assert phone.address not in text
    assert any("each sample the mean of 50 runs" in note for note in report.notes)
    assert any(note.startswith("energy: not measured") for note in report.notes)


@pytest.mark.slow
def test_golden_frames_are_checked_on_the_phone(benched: tuple[Path, BenchReport, Phone]) -> None:
    int8, fp32 = benched[1].verified
    assert (int8.golden_equal, int8.golden_images, int8.passed) == (4, 4, True)
    assert int8.golden_agreement == 1.0
    assert fp32.precision is Precision.FP32
    assert (fp32.golden_agreement or 0) > 0.99
    assert int8.runtime.startswith("LiteRT benchmark_model ")


@pytest.mark.slow
def test_a_wrong_mask_on_the_phone_fails_the_gate(phone: Phone, floating: Bundle, tmp_path: Path) -> None:
    report = run(phone, floating, tmp_path, write_program(tmp_path / "program", "negated"))
    assert [result.passed for result in report.verified] == [False]
    assert (report.verified[0].golden_agreement or 0) < 0.99


@pytest.mark.slow
def test_a_program_without_an_output_file_leaves_the_golden_frames_unchecked(
    phone: Phone, floating: Bundle, tmp_path: Path
) -> None:
    report = run(phone, floating, tmp_path, write_program(tmp_path / "program", "no_output"))
    assert report.verified == ()
    assert len(report.measurements) == 1
    assert "golden frames: not checked on the phone: this benchmark_model has no --output_filepath" in report.notes[0]


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        pytest.param(Faults(hang_up_on="--num_runs=50", hang_up_for_good=True), LOST, marks=pytest.mark.slow),
        (Faults(hang_up_on="frame-0", hang_up_for_good=True), LOST),
        (Faults(hang_up_on="getprop", hang_up_for_good=True), LOST),
        (Faults(space_bytes=1000), "the phone is full"),
    ],
)
def test_a_failure_gives_no_result_and_leaves_nothing(
    phone: Phone, floating: Bundle, tmp_path: Path, faults: Faults, said: str
) -> None:
    (tmp_path / "bench.json").write_text("older")
    phone.faults = faults
    with pytest.raises(DeviceError, match=said):
        run(phone, floating, tmp_path)
    assert (tmp_path / "bench.json").read_text() == "older"
    assert [p.name for p in tmp_path.glob(".bench*")] == []
    if faults.space_bytes is not None:
        assert phone.left == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "echo 'ERROR: Failed to apply XNNPACK delegate.' >&2; exit 1",
            "Failed to apply XNNPACK delegate. .exit code 1",
        ),
        ("kill -9 $$", "exit code 137; it was killed, perhaps for memory"),
        ("echo INFO: STARTING!", "gave no timings; it said: INFO: STARTING!"),
    ],
)
def test_a_program_that_fails_on_the_phone(phone: Phone, android: Bundle, tmp_path: Path, body: str, said: str) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n{body}\n")
    with pytest.raises(DeviceError, match=said):
        run(phone, android, tmp_path, program)
    assert phone.left == []
    assert not (tmp_path / "bench.json").exists()


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(11) + machine.to_bytes(2, "little") + bytes(44)


def test_a_program_for_another_machine(phone: Phone, android: Bundle, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(elf(62))
    with pytest.raises(UsageError, match="built for x86_64, the phone runs arm64-v8a, armeabi-v7a; download"):
        run(phone, android, tmp_path, program)
    assert phone.left == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"PK\x03\x04rest", "an Android app or archive"), (b"", "an empty file"), (None, "no such file")],
)
def test_a_program_that_is_none(android: Bundle, tmp_path: Path, content: bytes | None, said: str) -> None:
    program = tmp_path / "program"
    if content is not None:
        program.write_bytes(content)
    with pytest.raises(UsageError, match=f"{said}.*android_aarch64_benchmark_model"):
        bench_on_phone("adb://none", [android.folder], tmp_path / "b.json", benchmark_model=program)
    with pytest.raises(UsageError, match="--benchmark-model PATH; download LiteRT's Android binary"):
        bench_on_phone("adb://none", [android.folder], tmp_path / "b.json", benchmark_model=None)


@pytest.mark.parametrize(("name", "way"), [("onnx", "on this machine"), ("ios", "bench_coreml"), ("jetson", "ssh://")])
def test_other_targets_are_sent_where_they_belong(android: Bundle, tmp_path: Path, name: str, way: str) -> None:
    shutil.copytree(android.folder, tmp_path / "bundle")
    artifact = android.manifest.artifact.model_copy(update={"target": name})
    write_manifest(tmp_path / "bundle", android.manifest.model_copy(update={"artifact": artifact}))
    with pytest.raises(UsageError, match=f"not {name}; .*{way}"):
        bench_on_phone("R5CT", [tmp_path / "bundle"], tmp_path / "b.json", benchmark_model=tmp_path / "program")


@pytest.mark.slow
def test_the_shipped_model(server: None, tmp_path: Path) -> None:
    """The reference model's bundle at the real rapid schedule: numbers of this machine, through the phone's road."""
    (bundle,) = export(None, resolve_targets("android"), tmp_path / "bundles", say=quiet)
    with sandbox(tmp_path / "phone") as phone:
        report = run(phone, bundle, tmp_path)
        assert phone.left == []
    int8, fp32 = report.measurements
    print(f"emulated phone, times of this machine: int8 {int8.p50_ns} ns, fp32 {fp32.p50_ns} ns, {report.notes}")
    assert 10_000 < int8.p50_ns < 10**9  # which of the two is faster depends on what else this machine does
    assert 10_000 < fp32.p50_ns < 10**9
    assert [v.passed for v in report.verified] == [True, True]
    assert report.verified[0].golden_equal == 4
    assert json.loads((tmp_path / "bench.json").read_text())["environment"]["device"] == "adb"
