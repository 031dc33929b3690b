"""Rooms, files and programs: the same on this machine and behind a real sshd."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from devices.loopback import Loopback

from edge_unet.core.errors import UsageError
from edge_unet.devices.device import DeviceError
from edge_unet.devices.local import LocalDevice
from edge_unet.devices.shell import ShellDevice
from edge_unet.devices.ssh import SshDevice

NASTY = "-rf 'a\" $(touch pwned) `touch pwned` ; é\n*"


@pytest.fixture(params=["local", "ssh"])
def device(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShellDevice]:
    """Both kinds, with an empty folder for their rooms at `rooms_of`."""
    if request.param == "local":
        (tmp_path / "tmp").mkdir()
        monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
        with LocalDevice() as local:
            yield local
        return
    sshd: Loopback = request.getfixturevalue("sshd")
    with SshDevice("loop", config=sshd.config) as ssh:
        yield ssh


@pytest.fixture
def rooms(device: ShellDevice, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    return tmp_path / "tmp" if device.kind == "local" else request.getfixturevalue("sshd").tmp


def test_a_room_is_private_and_goes_with_all_that_is_in_it(device: ShellDevice, rooms: Path) -> None:
    with device.room() as room:
        assert Path(room).parent == rooms
        assert Path(room).stat().st_mode & 0o777 == 0o700
        device.run(["sh", "-c", "mkdir -p a/b && echo x > a/b/-f && chmod 500 a"], timeout_s=20, folder=room)
    assert list(rooms.iterdir()) == []


def test_a_room_goes_after_an_error_too(device: ShellDevice, rooms: Path) -> None:
    with pytest.raises(ZeroDivisionError), device.room():
        raise ZeroDivisionError
    assert list(rooms.iterdir()) == []


def test_files_arrive_whole_whatever_they_are_called(device: ShellDevice, tmp_path: Path) -> None:
    source = tmp_path / NASTY.replace("/", "")
    (source / NASTY).mkdir(parents=True)
    content = bytes(range(256)) * 4096
    (source / NASTY / "-x").write_bytes(content)
    with device.room() as room:
        device.push(source, room / "job")
        assert (Path(room) / "job" / NASTY / "-x").read_bytes() == content
        device.push(source / NASTY / "-x", room / "one")
        device.pull(room / "one", tmp_path / "back")
        listed = device.run(["ls", "-A"], timeout_s=20, folder=room).stdout.split()
    assert (tmp_path / "back").read_bytes() == content
    assert listed == [".group", "job", "one"]
    assert not list(tmp_path.rglob("pwned"))


def test_arguments_are_not_interpreted(device: ShellDevice, rooms: Path) -> None:
    with device.room() as room:
        done = device.run(["printf", "%s|", "a b", NASTY, "", "$HOME", "~", "\\n"], timeout_s=20, folder=room)
        assert done.stdout == f"a b|{NASTY}||$HOME|~|\\n|"
        assert not (Path(room) / "pwned").exists()


def test_codes_and_both_outputs_come_back(device: ShellDevice) -> None:
    heard: list[str] = []
    done = device.run(["sh", "-c", "echo one; echo two; echo bad >&2; exit 7"], timeout_s=20, heard=heard.append)
    assert (done.code, done.stdout, done.stderr, heard) == (7, "one\ntwo\n", "bad\n", ["one", "two"])
    assert device.run(["sh", "-c", "exit 255"], timeout_s=20).code == 253  # 255 means a lost connection
    assert device.run(["/no/such/program"], timeout_s=20).code == 127


def test_a_program_that_does_not_end_is_ended_with_its_children(device: ShellDevice) -> None:
    with device.room() as room:
        with pytest.raises(DeviceError, match="was not done after 1 s"):
            device.run(["sh", "-c", "echo $$ > pid; sleep 61 & sleep 61"], timeout_s=1, folder=room)
        pid = int((Path(room) / "pid").read_text())
        for _ in range(100):
            if not Path(f"/proc/{pid}").exists():
                break
            time.sleep(0.05)
        assert not Path(f"/proc/{pid}").exists()


def test_what_is_absent_is_named(device: ShellDevice, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        device.push(tmp_path / "absent", PurePosixPath("/tmp/x"))
    with pytest.raises(DeviceError, match="cannot read nothing: "):
        device.pull(PurePosixPath("/tmp/edge-unet/nothing"), tmp_path / "got")
    with pytest.raises(DeviceError, match=r"cannot write x: .*cd.*/no/such/folder"):
        device.push(tmp_path, PurePosixPath("/no/such/folder/x"))
    assert not (tmp_path / "got").exists()


def test_a_full_device_says_so_and_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system of 64 KiB."""
    small = tmp_path / "small"
    small.mkdir()
    if os.system(f"mount -t tmpfs -o size=64k tmpfs '{small}' 2>/dev/null"):
        pytest.skip("cannot mount a small tmpfs here (needs root)")
    try:
        monkeypatch.setenv("TMPDIR", str(small))
        (tmp_path / "big").write_bytes(bytes(1 << 18))
        with (
            pytest.raises(DeviceError, match="cannot write big: no space left on the device"),
            LocalDevice() as device,
            device.room() as room,
        ):
            device.push(tmp_path / "big", room / "big")
        assert list(small.iterdir()) == []
    finally:
        os.system(f"umount '{small}'")
