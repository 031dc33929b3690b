"""The whole benchmark over a real sshd: what comes back, and what a cut, a full device or a missing package leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from devices.loopback import Loopback, loopback, unavailable

from edge_unet.core.errors import MissingBackendError
from edge_unet.core.report import BenchReport, Schedule
from edge_unet.devices.device import DeviceError
from edge_unet.devices.ssh import CONFIG_VARIABLE
from edge_unet.pipeline import remote
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.pipeline.remote import bench_on

QUICK = Schedule(warmup_runs=2, warmup_ns=0, runs=12, limit_ns=2_000_000_000)
CLIENT = """
import sys
from pathlib import Path
from edge_unet.core.report import Schedule
from edge_unet.pipeline import remote
remote.RAPID = Schedule(runs=100000, limit_ns=60_000_000_000)
say = lambda line: print(line, flush=True)
remote.bench_on("ssh://loop", [Path(sys.argv[1])], Path(sys.argv[2]), rapid=True, say=say)
"""


@pytest.fixture(scope="module")
def tiny(tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small bundle for LiteRT."""
    folder = tmp_path_factory.mktemp("bundles")
    (bundle,) = export(tiny_canonical, resolve_targets("android"), folder, say=lambda line: None)
    return bundle.folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "RAPID", QUICK)


@pytest.fixture
def out(tmp_path: Path, sshd: Loopback) -> Iterator[Path]:
    """Where the result would go. Nothing may be left on the device, whatever happens."""
    yield tmp_path / "report.json"
    assert sshd.wait_empty() == []


@pytest.mark.slow
@pytest.mark.usefixtures("ssh_config", "quick")
def test_the_reference_model_behind_ssh(out: Path, tmp_path: Path) -> None:
    """INT8 on OpenVINO and LiteRT beside their twins, with the golden masks they have here."""
    targets = [*resolve_targets("cpu"), *resolve_targets("android")]
    bundles = export(None, targets, tmp_path / "bundles", say=lambda line: None)
    report = bench_on("ssh://loop", [b.folder for b in bundles], out, rapid=True, say=lambda line: None)
    labels = {m.label for m in report.measurements}
    assert {"cpu int8", "cpu fp32", "android int8", "android fp32", "onnx fp32"} <= labels
    assert report.environment.device == "ssh"
    assert BenchReport.model_validate_json(out.read_text()) == report
    agreed = [note for note in report.notes if "int8 agrees in" in note]
    assert len(agreed) == 2
    assert all(float(note.split("agrees in ")[1].split("%")[0]) >= 99.9 for note in agreed)


@pytest.mark.usefixtures("ssh_config", "quick")
def test_a_bundle_with_a_nasty_name(out: Path, tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "-oProxyCommand=x $(touch pwned) 'q\" ;"
    shutil.copytree(tiny, folder)
    report = bench_on("ssh://loop", [folder], out, rapid=True, say=lambda line: None)
    assert {"android int8", "android fp32"} <= {m.label for m in report.measurements}
    assert (report.environment.device, report.environment.threads) == ("ssh", 1)
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.usefixtures("ssh_config", "quick")
def test_a_connection_cut_in_the_middle(sshd: Loopback, out: Path, tiny: Path) -> None:
    heard: list[str] = []

    def cut(line: str) -> None:
        heard.append(line)
        if "memory and energy" in line:
            sshd.cut()

    with pytest.raises(DeviceError, match=r"^ssh://loop: the connection was lost.*while running python3"):
        bench_on("ssh://loop", [tiny], out, rapid=True, say=cut)
    assert any("tiny android int8: litert" in line for line in heard)
    assert not out.exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, None), (signal.SIGTERM, -signal.SIGTERM)])
def test_an_interrupt_cleans_up_on_both_sides(
    sshd: Loopback, out: Path, tiny: Path, tmp_path: Path, number: signal.Signals, code: int | None
) -> None:
    here = tmp_path / "tmp"
    here.mkdir()
    environment = {**os.environ, CONFIG_VARIABLE: str(sshd.config), "TMPDIR": str(here)}
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(tiny), str(out)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert client.stdout is not None
    for line in client.stdout:
        if "memory and energy" in line:
            break
    assert len(sshd.rooms()) == 1
    client.send_signal(number)
    _, stderr = client.communicate(timeout=30)
    assert client.returncode != 0
    assert code is None or client.returncode == code
    assert number != signal.SIGINT or "KeyboardInterrupt" in stderr
    assert sshd.wait_empty() == []
    assert not out.exists()
    if number == signal.SIGINT:
        assert list(here.glob("edge-unet*")) == []


@pytest.mark.usefixtures("quick")
def test_a_full_device(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=96k tmpfs '{small}' 2>/dev/null"):
        pytest.skip("cannot mount a small tmpfs here (needs root)")
    try:
        with loopback(tmp_path / "sshd", {"TMPDIR": str(small)}) as sshd:
            monkeypatch.setenv(CONFIG_VARIABLE, str(sshd.config))
            with pytest.raises(DeviceError, match="ssh://loop: cannot write job: no space left on the device"):
                bench_on("ssh://loop", [tiny], tmp_path / "report.json", rapid=True, say=lambda line: None)
        assert list(small.iterdir()) == []
        assert not (tmp_path / "report.json").exists()
    finally:
        os.system(f"umount '{small}'")


def python_with(home: Path, *packages: str) -> None:
    """A virtual environment of the device's own in ~/.edge-unet that holds only these packages."""
    place = home / ".edge-unet"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=60)
    (target,) = place.glob("lib/python*/site-packages")
    source = Path(np.__file__).parent.parent
    for package in packages:
        for entry in source.glob(f"{package}*"):
            (target / entry.name).symlink_to(entry)


@pytest.fixture
def own_python(sshd: Loopback) -> Iterator[Path]:
    yield sshd.home
    shutil.rmtree(sshd.home / ".edge-unet")


@pytest.mark.usefixtures("ssh_config", "quick")
def test_no_numpy_there(own_python: Path, out: Path, tiny: Path) -> None:
    python_with(own_python)
    with pytest.raises(MissingBackendError, match=r"ssh://loop: numpy is missing on the device \(.*\.edge-unet/bin"):
        bench_on("ssh://loop", [tiny], out, rapid=True, say=lambda line: None)
    assert not out.exists()


@pytest.mark.usefixtures("ssh_config", "quick")
def test_no_runtime_there(own_python: Path, out: Path, tiny: Path) -> None:
    python_with(own_python, "numpy")
    with pytest.raises(
        MissingBackendError, match=r"ai-edge-litert is missing on the device .*pip install ai-edge-litert"
    ):
        bench_on("ssh://loop", [tiny], out, rapid=True, say=lambda line: None)
    assert not out.exists()


@pytest.mark.usefixtures("ssh_config", "quick")
def test_a_baseline_whose_runtime_is_absent_there_is_left_out_with_the_reason(
    own_python: Path, out: Path, tiny: Path
) -> None:
    python_with(own_python, "numpy", "ai_edge_litert", "flatbuffers", "backports", "typing_extensions", "tqdm")
    report = bench_on("ssh://loop", [tiny], out, rapid=True, say=lambda line: None)
    assert {m.label for m in report.measurements} == {"android int8", "android fp32"}
    (left,) = report.not_measured
    assert (left.target, left.precision.value) == ("onnx", "fp32")
    assert "onnxruntime is missing on the device" in left.reason
    assert "onnxruntime" not in report.environment.packages
