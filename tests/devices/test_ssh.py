"""ssh: what can go wrong before, while and after something runs, against a real sshd."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from devices.loopback import Loopback, loopback, unavailable

from edge_unet.core.errors import MissingBackendError
from edge_unet.devices.device import DeviceError
from edge_unet.devices.ssh import CONFIG_VARIABLE, SshDevice

TOOLS = ("sh", "mktemp", "cat", "rm", "tar", "sleep")
"""What a device must have besides Python."""


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("other-key", "host key is not the one that is known.*ssh-keygen -R other-key"),
        ("stranger", "host key is not known here; connect once by hand"),
        ("no-key", "refuses this user or key; set up a key: ssh-copy-id no-key"),
        ("absent", "nothing listens there"),
        ("no.such.host.invalid", "no such host; check the name"),
    ],
)
def test_who_cannot_be_reached_is_told_why(sshd: Loopback, host: str, words: str) -> None:
    with pytest.raises(DeviceError, match=words) as caught, SshDevice(host, config=sshd.config):
        pytest.fail("connected")
    assert str(caught.value).startswith(f"ssh://{host}: ")
    assert "\n" not in str(caught.value)


def test_the_configuration_is_named_by_a_variable(sshd: Loopback, ssh_config: Path) -> None:
    with SshDevice("loop") as device:
        assert device.run(["printenv", "TMPDIR"], timeout_s=20).stdout.strip() == str(sshd.tmp)
    assert os.environ[CONFIG_VARIABLE] == str(ssh_config)


def test_user_and_port_go_before_the_configuration(sshd: Loopback) -> None:
    with SshDevice("loop", user=getpass.getuser(), config=sshd.config) as device:
        assert device.run(["true"], timeout_s=20).code == 0
    with (
        pytest.raises(DeviceError, match="refuses this user"),
        SshDevice("loop", user="nobody_here", config=sshd.config),
    ):
        pytest.fail("connected")
    with pytest.raises(DeviceError, match="nothing listens"), SshDevice("loop", port=1, config=sshd.config):
        pytest.fail("connected")


def test_no_ssh_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingBackendError, match="openssh-client"), SshDevice("loop"):
        pytest.fail("connected")


def test_what_start_up_files_print_is_no_answer(sshd: Loopback, tmp_path: Path) -> None:
    """bash reads ~/.bashrc for commands over ssh, and people print things there."""
    noise = sshd.home / ".bashrc"
    noise.write_text("echo welcome; echo /tmp/not-a-room\n")
    try:
        with SshDevice("loop", config=sshd.config) as device, device.room() as room:
            assert Path(room).parent == sshd.tmp
            (Path(room) / "f").write_bytes(b"\0\1")
            device.pull(room / "f", tmp_path / "f")
            assert (tmp_path / "f").read_bytes() == b"\0\1"
            assert device.run(["echo", "x"], timeout_s=20).stdout == "x\n"
    finally:
        noise.unlink()


def test_a_connection_cut_while_a_program_runs(sshd: Loopback) -> None:
    """The program and the room go, and the error names what was lost."""
    with (
        SshDevice("loop", config=sshd.config) as device,
        pytest.raises(DeviceError, match=r"connection was lost.*while running sh") as caught,
        device.room() as room,
    ):
        device.run(
            ["sh", "-c", "echo begun; sleep 62 & sleep 62"], timeout_s=30, folder=room, heard=lambda line: sshd.cut()
        )
    assert "removes" not in str(caught.value)  # it was reached again, and cleaned
    assert sshd.wait_empty() == []
    assert lingering(sshd.tmp) == []


def test_a_device_that_is_lost_for_good_cleans_up_by_itself(tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    with loopback(tmp_path / "sshd") as sshd:

        def pull_the_plug(line: str) -> None:
            connections = sshd.connections()
            sshd.process.kill()
            sshd.process.wait()
            sshd.kill(connections)

        with (
            SshDevice("loop", config=sshd.config) as device,
            pytest.raises(DeviceError, match=r"connection was lost.*the device removes .* itself"),
            device.room() as room,
        ):
            device.run(["sh", "-c", "echo begun; sleep 63"], timeout_s=30, folder=room, heard=pull_the_plug)
        assert sshd.wait_empty() == []
        assert lingering(sshd.tmp) == []


def test_a_connection_cut_between_two_commands(sshd: Loopback, tmp_path: Path) -> None:
    """No command connects by itself, and the room goes all the same."""
    with (
        SshDevice("loop", config=sshd.config) as device,
        pytest.raises(DeviceError, match="connection was lost"),
    ):
        cut_in_the_room(device, sshd, tmp_path)
    assert sshd.wait_empty() == []


def cut_in_the_room(device: SshDevice, sshd: Loopback, source: Path) -> None:
    with device.room() as room:
        sshd.cut()
        device.push(source, room / "x")


def test_a_temporary_folder_with_a_long_name_is_no_obstacle(
    ssh_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The path of a Unix socket has 104 bytes; ssh says "too long for Unix domain socket" beyond."""
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with SshDevice("loop") as device:
        assert device.run(["echo", "there"], timeout_s=20).stdout == "there\n"
    assert list(long.iterdir()) == []


def test_a_process_that_is_killed_leaves_nothing(sshd: Loopback, tmp_path: Path) -> None:
    """Not even SIGKILL here keeps the room there."""
    program = (
        "import sys\nfrom edge_unet.devices.ssh import SshDevice\n"
        "with SshDevice('loop') as device, device.room() as room:\n"
        "    device.run(['sh', '-c', 'echo begun; sleep 64'], timeout_s=60, folder=room,\n"
        "               heard=lambda line: print(line, flush=True))\n"
    )
    environment = {**os.environ, CONFIG_VARIABLE: str(sshd.config), "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    assert len(sshd.rooms()) == 1
    process.kill()
    process.wait()
    process.stdout.close()
    assert sshd.wait_empty() == []
    assert lingering(sshd.tmp) == []


def test_no_python_there(tmp_path: Path) -> None:
    if reason := unavailable():
        pytest.skip(reason)
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(shutil.which(name) or "/bin/false")
    with loopback(tmp_path / "sshd", {"PATH": str(tools)}) as sshd, SshDevice("loop", config=sshd.config) as device:
        with device.room() as room:
            device.push(tmp_path / "bin", room / "x")
            with pytest.raises(MissingBackendError, match=r"ssh://loop: python3 is missing there"):
                device.python()
        assert sshd.wait_empty() == []


def test_a_virtual_environment_of_ours_is_found(sshd: Loopback) -> None:
    place = sshd.home / ".edge-unet/bin"
    place.mkdir(parents=True)
    (place / "python3").symlink_to(sys.executable)
    try:
        with SshDevice("loop", config=sshd.config) as device:
            assert device.python() == str(place / "python3")
    finally:
        shutil.rmtree(place.parent)


def test_no_command_connects_by_itself(sshd: Loopback, brief: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the shared connection ssh would open another one, silently."""
    monkeypatch.setattr(tempfile, "tempdir", str(brief))
    with SshDevice("loop", config=sshd.config) as device:
        (socket,) = brief.glob("*/s")
        socket.unlink()
        with pytest.raises(DeviceError, match="connection was lost"):
            device.run(["true"], timeout_s=20)


def test_nothing_of_ours_stays_here(sshd: Loopback, brief: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(brief))
    with SshDevice("loop", config=sshd.config):
        (private,) = brief.iterdir()
        assert private.stat().st_mode & 0o777 == 0o700
    assert list(brief.iterdir()) == []


def lingering(folder: Path, seconds: float = 5.0) -> list[str]:
    """Command lines of processes that still work below a folder after at most this long."""
    deadline = time.monotonic() + seconds
    while True:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if str((entry / "cwd").readlink()).startswith(str(folder)):
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)
