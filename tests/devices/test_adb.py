"""AdbDevice with the real adb client against a device side that speaks its protocol in a sandbox."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest
from devices.adb_server import Faults, Phone, alive, own_adb_server

from edge_unet.core.errors import MissingBackendError, UsageError
from edge_unet.devices import adb as adb_module
from edge_unet.devices.adb import AdbDevice
from edge_unet.devices.device import DeviceError

needs_adb = pytest.mark.skipif(shutil.which("adb") is None, reason="adb is not installed: apt-get install adb")
V1: tuple[str, ...] = ()
V2 = ("shell_v2", "cmd", "stat_v2", "ls_v2")
ARGUMENTS = ("two  words", "it's", '"', "$(touch pwned)", "`touch pwned`", "; touch pwned", "-n", "a\nb", "*", "\\")
HOSTILE = (
    "plain.bin",
    "two words.bin",
    "it's.bin",
    '"quoted".bin',
    "$(touch pwned).bin",
    "-rf",
    "a;touch pwned",
    "ü`id`",
)


def adb(*arguments: str) -> str:
    return subprocess.run(["adb", *arguments], capture_output=True, text=True, check=False, timeout=30).stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with own_adb_server(tmp_path_factory.mktemp("home")):
        yield


@contextmanager
def connected(phone: Phone) -> Iterator[None]:
    adb("connect", phone.address)
    try:
        yield
    finally:
        adb("disconnect", phone.address)


@pytest.fixture(params=[V2, V1], ids=["shell_v2", "shell_v1"])
def phone(request: pytest.FixtureRequest, server: None, tmp_path: Path) -> Iterator[Phone]:
    with Phone(tmp_path / "phone", request.param) as phone, connected(phone):
        yield phone


@pytest.fixture
def modern(server: None, tmp_path: Path) -> Iterator[Phone]:
    with Phone(tmp_path / "phone") as phone, connected(phone):
        yield phone


pytestmark = needs_adb


def test_a_command_gives_its_output_and_its_exit_code(phone: Phone) -> None:
    with AdbDevice(phone.address) as device:
        done = device.run(["sh", "-c", "echo out; echo rc=7; exit 3"], timeout_s=20)
        assert (done.code, done.stdout) == (3, "out\nrc=7\n")
        assert device.run(["printf", "no newline"], timeout_s=20).stdout == "no newline"
        assert device.run(["true"], timeout_s=20).stdout == ""
        assert device.run(["no-such-program"], timeout_s=20).code == 127
        assert (device.kind, device.label) == ("adb", f"adb://{phone.address}")


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_arguments_reach_the_program_as_they_are(phone: Phone, argument: str) -> None:
    with AdbDevice(phone.address) as device:
        done = device.run(["printf", "%s", argument], timeout_s=20)
    assert (done.code, done.stdout) == (0, argument)
    assert not (phone.root / "pwned").exists()


def test_stderr_is_apart_where_the_phone_can(phone: Phone) -> None:
    with AdbDevice(phone.address) as device:
        done = device.run(["sh", "-c", "echo a; echo b >&2"], timeout_s=20)
    assert (done.stdout, done.stderr) == (("a\n", "b\n") if phone.features else ("a\nb\n", ""))


def test_hostile_names_travel_and_no_shell_sees_them(phone: Phone, tmp_path: Path) -> None:
    folder = tmp_path / "my $(touch pwned) 'folder'"
    (folder / "deeper one").mkdir(parents=True)
    for number, name in enumerate(HOSTILE):
        (folder / name).write_bytes(bytes([number]) * (number * 40_000 + 1))
    (folder / "deeper one/x").write_bytes(b"")
    with AdbDevice(phone.address) as device, device.room() as room:
        device.push(folder, room / "copy")
        device.push(folder / "-rf", room / "single")
        for name in (*HOSTILE, "deeper one/x"):
            device.pull(room / "copy" / name, tmp_path / "back" / name)
            assert (tmp_path / "back" / name).read_bytes() == (folder / name).read_bytes()
        there = Path(phone.inside(str(room)))
        assert (there / "single").read_bytes() == (folder / "-rf").read_bytes()
    assert phone.left == []
    assert not list(tmp_path.rglob("pwned"))
    pushes = [command for command in phone.commands if "wc" not in command]
    assert not any("touch" in command for command in pushes)


def test_a_room_is_empty_and_goes_after_an_error(phone: Phone, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), AdbDevice(phone.address) as device, device.room() as room:  # noqa: PT012
        assert phone.left == [room.name]
        assert room.parent == PurePosixPath("/data/local/tmp")
        done = device.run(["pwd"], timeout_s=20, folder=room)
        assert done.stdout.strip().endswith(str(room))
        _ = 1 / 0
    assert phone.left == []


def test_what_is_not_there_cannot_be_pulled(phone: Phone, tmp_path: Path) -> None:
    with AdbDevice(phone.address) as device, device.room() as room:
        with pytest.raises(DeviceError, match="nothing is not there"):
            device.pull(room / "nothing", tmp_path / "nothing")
        with pytest.raises(DeviceError, match="no such file"):
            device.push(tmp_path / "nothing", room / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_a_program_whose_time_is_up_is_ended_on_the_phone(phone: Phone) -> None:
    with AdbDevice(phone.address) as device, device.room() as room:
        start = time.monotonic()
        with pytest.raises(DeviceError, match=r"sh did not end within 1 s and was stopped"):
            device.run(["sh", "-c", "echo $$ > pid; exec sleep 60"], timeout_s=1, folder=room)
        assert time.monotonic() - start < 10
        pid = int((Path(phone.inside(str(room))) / "pid").read_text())
        assert not alive(pid)
    assert phone.left == []


INTERRUPTED = """
import signal, sys
from edge_unet.devices.adb import AdbDevice
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits "ignore"
with AdbDevice(sys.argv[1]) as device, device.room() as room:
    device.run(["sh", "-c", "echo $$ > ../pid; exec sleep 60"], timeout_s=50, folder=room)
"""


def test_ctrl_c_ends_the_program_and_removes_the_room(modern: Phone) -> None:
    client = subprocess.Popen([sys.executable, "-c", INTERRUPTED, modern.address], stderr=subprocess.PIPE, text=True)
    pid_file = Path(modern.inside("/data/local/tmp/pid"))
    deadline = time.monotonic() + 40
    while not (pid_file.is_file() and pid_file.read_text().strip()):
        assert time.monotonic() < deadline
        assert client.poll() is None
        time.sleep(0.05)
    client.send_signal(signal.SIGINT)
    _, stderr = client.communicate(timeout=40)
    assert "KeyboardInterrupt" in stderr
    assert not alive(int(pid_file.read_text()))
    assert modern.left == ["pid"]


def test_a_link_that_breaks_is_one_clear_error(phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adb_module, "_RETURN_S", 1.0)
    phone.faults = Faults(hang_up_on="sleep", hang_up_for_good=True)
    with (
        pytest.raises(DeviceError, match=r"the connection was lost while sleep ran there .*check the cable") as caught,
        AdbDevice(phone.address) as device,
        device.room() as room,
    ):
        device.run(["sleep", "2"], timeout_s=20)
    assert phone.left == [room.name]
    assert str(caught.value).endswith(f"{room} may remain on the phone: adb shell rm -rf {room}")


def test_a_link_that_comes_back_is_used_to_tidy_up(phone: Phone) -> None:
    phone.faults = Faults(hang_up_on="sleep")
    with (  # noqa: PT012
        pytest.raises(DeviceError, match=r"the connection was lost while sh ran there .*run this again$"),
        AdbDevice(phone.address) as device,
        device.room() as room,
    ):
        pid = Path(phone.inside(str(room))).parent.parent / "pid"
        device.run(["sh", "-c", "echo $$ > ../../pid; exec sleep 60"], timeout_s=20, folder=room)
    assert phone.left == []
    assert not alive(int(pid.read_text()))


def test_a_link_that_breaks_while_a_file_travels(phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(3_000_000))
    phone.faults = Faults(hang_up_on="SEND")
    with (
        pytest.raises(DeviceError, match=r"the connection was lost .*check the cable and run this again$"),
        AdbDevice(phone.address) as device,
        device.room() as room,
    ):
        device.push(tmp_path / "model", room / "model")
    assert phone.left == []


def test_a_full_phone_says_so_and_keeps_nothing(phone: Phone, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(300_000))
    phone.faults = Faults(space_bytes=200_000)
    with (
        pytest.raises(DeviceError, match="the phone is full"),
        AdbDevice(phone.address) as device,
        device.room() as room,
    ):
        device.push(tmp_path / "model", room / "model")
    assert phone.left == []


def test_a_phone_too_full_for_a_folder(phone: Phone) -> None:
    program = phone.root / "bin/mkdir"
    program.write_text("#!/bin/sh\necho \"mkdir: '$3': No space left on device\" >&2\nexit 1\n")
    program.chmod(0o755)
    with (
        pytest.raises(DeviceError, match=r"cannot make a folder in /data/local/tmp: .*No space left"),
        AdbDevice(phone.address) as device,
        device.room(),
    ):
        pass


def test_a_phone_that_has_not_allowed_us(server: None, tmp_path: Path) -> None:
    with Phone(tmp_path, faults=Faults(unauthorized=True)) as phone, connected(phone):
        deadline = time.monotonic() + 10
        while "unauthorized" not in adb("devices") and time.monotonic() < deadline:
            time.sleep(0.1)
        with pytest.raises(DeviceError, match=r"unauthorized: .*Allow USB debugging"), AdbDevice(phone.address):
            pass


def test_a_phone_that_does_not_answer(server: None, tmp_path: Path) -> None:
    with Phone(tmp_path, faults=Faults(mute=True)) as phone:
        connecting = subprocess.Popen(["adb", "connect", phone.address], stdout=subprocess.DEVNULL)
        time.sleep(0.5)
        with (
            pytest.raises(DeviceError, match=f"adb://{phone.address}: (offline|connecting): "),
            AdbDevice(phone.address),
        ):
            pass
        connecting.kill()
        connecting.wait()
        adb("disconnect", phone.address)


def test_which_phone_is_meant(server: None, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no phone is connected"), AdbDevice(""):
        pass
    with pytest.raises(DeviceError, match=r"no phone with this serial number .*none is connected"), AdbDevice("R5CT"):
        pass
    with Phone(tmp_path / "one") as one, Phone(tmp_path / "two") as two, connected(one):
        with AdbDevice("") as device:
            assert device.label == f"adb://{one.address}"
        with connected(two), pytest.raises(DeviceError, match="2 phones are connected"), AdbDevice(""):
            pass
        with pytest.raises(DeviceError, match=f"serial number .*{one.address}.*adb connect 127.0.0.1:1;"):
            AdbDevice("127.0.0.1:1").__enter__()


@pytest.mark.parametrize("serial", ["-d", "a b", "x\ny", " "])
def test_a_serial_that_is_none(serial: str) -> None:
    with pytest.raises(UsageError, match="is no serial number"):
        AdbDevice(serial)


def test_without_adb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingBackendError, match="adb is not installed; install it with: apt-get install adb"):
        AdbDevice("R5CT").__enter__()
