"""`edge-unet devices` and `doctor --device`: what is listed, and what a machine or a phone says of itself."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from devices.adb_server import Phone
from devices.loopback import Loopback, loopback, unavailable
from devices.sandbox_phone import furnish

from edge_unet.core.machine import Environment
from edge_unet.devices.ssh import CONFIG_VARIABLE
from edge_unet.pipeline.devices import describe, list_devices, probe, ssh_hosts

needs_adb = pytest.mark.skipif(shutil.which("adb") is None, reason="adb is not installed: apt-get install adb")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`adb devices` starts a server where none runs: one of our own, which sees no phone of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free.getsockname()[1]))
    monkeypatch.setenv("ADB_MDNS", "0")
    monkeypatch.setenv("HOME", str(tmp_path))
    yield
    if shutil.which("adb"):
        subprocess.run(["adb", "kill-server"], capture_output=True, check=False, timeout=30)


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Loopback]:
    if reason := unavailable():
        pytest.skip(reason)
    with loopback(tmp_path / "sshd") as running:
        yield running


@pytest.mark.usefixtures("server")
def test_the_hosts_that_are_reached(sshd: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(sshd.config))
    assert probe("ssh://loop").device == "ssh"
    rows = {row["name"]: row for row in list_devices(reach=True)}
    assert rows["ssh://loop"]["state"] == "reachable"
    assert rows["ssh://stranger"]["state"] == "unreachable"
    assert "host key is not known" in rows["ssh://stranger"]["detail"]
    assert sshd.wait_empty() == []


@needs_adb
@pytest.mark.usefixtures("server")
def test_a_phone_is_listed_and_tells_of_itself(tmp_path: Path) -> None:
    """The real adb client and a server that speaks adbd's side."""
    with Phone(tmp_path / "phone") as phone:
        furnish(tmp_path / "phone")
        subprocess.run(["adb", "connect", phone.address], capture_output=True, check=True, timeout=30)
        rows = {row["name"]: row for row in list_devices()}
        assert rows[f"adb://{phone.address}"]["state"] == "device"
        found = probe(f"adb://{phone.address}")
    assert (found.device, found.os, found.threads, found.after) == ("adb", "Android 14", None, None)
    names = {row["name"] for row in describe(found)}
    assert {"chip", "temperature"} <= names
    assert not names & {"python", "openvino"}


def test_the_probe_is_the_environment_of_a_device() -> None:
    found = probe("local")
    assert found.device == "local"
    assert found.before is not None
    assert found.packages["numpy"] == np.__version__
    rows = {row["name"]: row for row in describe(found)}
    assert rows["openvino"]["state"] == "ok"
    assert rows["tensorrt"] == {
        "name": "tensorrt", "state": "missing", "detail": "install one on the device to time with it: tensorrt",
    }  # fmt: skip
    assert np.__version__ in rows["python"]["detail"]
    empty = {row["name"]: row["detail"] for row in describe(Environment())}
    assert empty["governor"] == "not readable here"


@pytest.mark.usefixtures("server")
def test_the_hosts_of_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only names of one host, of Include files too; what could not be written as ssh://… is left out."""
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.conf").write_text("Host pi\n  HostName 10.0.0.2\n")
    (tmp_path / "config").write_text(
        f"# Host no\nInclude {tmp_path}/more/*.conf\nHost orin nano\n  User nv\nhost *.lab !x\nHost *\nHost=jet\n"
        'Host "quoted"\nHost $(touch x)\nMatch host y exec "touch x"\n  User z\n'
    )
    assert list(ssh_hosts(tmp_path / "config")) == ["pi", "orin", "nano", "jet", "quoted"]
    assert list(ssh_hosts(tmp_path / "absent")) == []
    monkeypatch.setenv("EDGE_UNET_SSH_CONFIG", str(tmp_path / "config"))
    rows = list_devices()
    assert [(row["name"], row["state"]) for row in rows[:2]] == [("local", "here"), ("ssh://pi", "configured")]
    assert len(rows) == 6
