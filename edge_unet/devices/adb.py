"""A phone behind adb, driven by the system's own `adb` client.

adb's shell takes one string, which the phone's shell interprets: only words and names of our own ever go there, each
quoted. Files travel by adb's sync protocol, which interprets nothing; on the phone they bear names that we chose.
"""

from __future__ import annotations

import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Literal

from edge_unet.core.errors import MissingBackendError, UsageError
from edge_unet.core.files import bytes_of, written_whole
from edge_unet.devices.device import Completed, DeviceError

ROOMS = PurePosixPath("/data/local/tmp")
"""The one folder where a phone lets adb's user write and run programs."""
NOT_RUNNABLE = (126, 127)
"""Exit codes of a shell whose program could not be started."""
_ANSWER_S = 30.0
"""What a healthy phone needs for a word: the state, a folder made or removed."""
_RETURN_S = 5.0
"""How long to wait for a broken link to come back, for the sake of tidying up."""
_BYTES_PER_S = 500_000
"""Slower than any cable; sets how long a copy may take."""
_SERIAL = re.compile(r"[^\s\-\x00-\x1f\x7f][^\s\x00-\x1f\x7f]*")
_BROKEN = (
    "not found",
    "closed",
    "protocol fault",
    "no devices",
    "EOF",
    "from device",
    "to device",
    "reset",
    "roken pipe",
)
"""Words of the adb client for a link that is gone."""
_STATES = {
    "unauthorized": "it has not allowed this computer; unlock the phone and accept 'Allow USB debugging'",
    "offline": "it does not answer; unplug it and plug it in again, or: adb reconnect",
    "no permissions": "this user may not open it; install adb's udev rules (android-sdk-platform-tools-common), replug",
    "authorizing": "it is still asking; unlock the phone and accept 'Allow USB debugging'",
    "connecting": "it is still connecting; try again in a moment",
    "recovery": "it is in recovery mode; boot Android",
    "sideload": "it is in sideload mode; boot Android",
    "bootloader": "it is in its bootloader; boot Android",
}


class AdbDevice:
    """A context manager: entering finds the phone and says what is wrong with it, if anything is.

    `serial` as `adb devices` lists it; empty takes the only phone there is. `adb` is the client to run; it honours
    ANDROID_ADB_SERVER_PORT and HOME. An adb server that was started stays, as after every use of adb.
    """

    def __init__(self, serial: str, *, adb: str = "adb") -> None:
        if serial and not _SERIAL.fullmatch(serial):
            raise UsageError(f"adb: {serial!r} is no serial number; list the phones with: adb devices")
        self._serial = serial
        self._adb = adb

    @property
    def kind(self) -> Literal["adb"]:
        """How it is reached."""
        return "adb"

    @property
    def label(self) -> str:
        """'adb://SERIAL'."""
        return f"adb://{self._serial}"

    def __enter__(self) -> AdbDevice:
        """Raises MissingBackendError without adb, DeviceError where the phone is absent or does not let us in."""
        if shutil.which(self._adb) is None:
            raise MissingBackendError(
                f"{self._adb} is not installed; install it with: apt-get install adb "
                "(or Android's SDK Platform-Tools), and switch on USB debugging on the phone"
            )
        self._client("start-server", timeout_s=_ANSWER_S)  # else its first words land in another command's output
        states = _listed(self._client("devices", timeout_s=_ANSWER_S))
        self._serial = self._serial or _only(states)
        _require_usable(self._serial, states)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held between two commands."""

    @contextmanager
    def room(self) -> Iterator[PurePosixPath]:
        """A new folder below /data/local/tmp; see Device.room."""
        room = ROOMS / f"edge-unet-{secrets.token_hex(8)}"
        try:
            made = self.run(["mkdir", "-m", "700", str(room)], timeout_s=_ANSWER_S)
            if made.code:
                raise DeviceError(f"{self.label}: cannot make a folder in {ROOMS}: {_reason(made)}")
            yield room
        except BaseException as error:
            try:
                self._wait()  # the link may be what failed, and may come back
                self._remove(room)
            except DeviceError:
                if isinstance(error, DeviceError):
                    raise DeviceError(f"{error}; {_remains(room)}") from error
            raise
        try:
            self._remove(room)
        except DeviceError as error:
            raise DeviceError(f"{error}; {_remains(room)}") from error

    def push(self, source: Path, target: PurePosixPath) -> None:
        """Copy a file, or a folder file by file; see Device.push. Empty folders have no word in adb's protocol and
        are left out."""
        if not source.exists():
            raise DeviceError(f"{source}: no such file; nothing to copy to {self.label}")
        files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
        for file in files:
            self._copy("push", str(file.absolute()), str(target / file.relative_to(source)), bytes_of(file))

    def pull(self, source: PurePosixPath, target: Path) -> None:
        """Copy one file here, whole or not at all."""
        size = self.run(["wc", "-c", str(source)], timeout_s=_ANSWER_S)
        expected = size.stdout.split()
        if size.code or not expected or not expected[0].isdigit():
            raise DeviceError(f"{self.label}: {source.name} is not there: {_reason(size)}")
        with written_whole(target.absolute()) as temporary:
            self._copy("pull", str(source), str(temporary), int(expected[0]))
            received = temporary.stat().st_size if temporary.is_file() else 0
            if received != int(expected[0]):
                raise DeviceError(f"{self.label}: {source.name}: expected {expected[0]} bytes, received {received}")

    def run(self, argv: Sequence[str], *, timeout_s: float, folder: PurePosixPath | None = None) -> Completed:
        """Run a program; see Device.run. Old phones mix stderr into stdout.

        The phone's shell first says its process number, which then is the program's (exec), so that a program whose
        time is up can be ended there; after the program it says the exit code, because adb's old protocol has none.
        Both lines carry a random mark, and the last one is found wherever the output ends, in mid-line too.
        """
        mark = f"edge-unet-{secrets.token_hex(8)}"
        inner = f'echo {mark}-pid=$$; exec "$0" "$@"'
        enter = f"cd {shlex.quote(str(folder))} && " if folder is not None else ""
        line = f"{enter}sh -c {shlex.quote(inner)} {shlex.join(argv)}; echo {mark}-rc=$?"
        process = subprocess.Popen(
            [self._adb, *self._chosen(), "shell", line],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            start_new_session=True,  # ctrl-C is ours to pass on
        )  # fmt: skip
        out = b""
        try:
            out, err = process.communicate(timeout=timeout_s)
        except BaseException as error:
            process.kill()
            out, _ = process.communicate()
            self._end(_text(out), mark)
            if isinstance(error, subprocess.TimeoutExpired):
                raise DeviceError(
                    f"{self.label}: {PurePosixPath(argv[0]).name} did not end within {timeout_s:.0f} s and was stopped"
                ) from error
            raise
        return self._completed(_text(out), _text(err), mark, argv)

    def _completed(self, out: str, err: str, mark: str, argv: Sequence[str]) -> Completed:
        """Take our own two lines out of the output."""
        body, found, code = out.rpartition(f"{mark}-rc=")
        if not found or not code.strip().isdigit():
            self._end(out, mark)
            own = "\n".join(line for line in err.splitlines() if line.startswith(("adb:", "error:")))
            raise self._lost(own, f"while {PurePosixPath(argv[0]).name} ran there")
        _, pid, body = body.partition(f"{mark}-pid=") if f"{mark}-pid=" in body else ("", "", body)
        return Completed(int(code), body.partition("\n")[2] if pid else body, err)

    def _end(self, out: str, mark: str) -> None:
        """End the program that a lost or interrupted `run` left behind, if the phone still listens."""
        pid = out.partition(f"{mark}-pid=")[2].split("\n")[0].strip()
        if pid.isdigit():
            with suppress(DeviceError):
                self._wait()
                self._client(*self._chosen(), "shell", f"kill -9 {pid}", timeout_s=_ANSWER_S)

    def _wait(self) -> None:
        """Until the link is there, but not for long. Raises DeviceError where it stays away."""
        self._client(*self._chosen(), "wait-for-device", timeout_s=_RETURN_S)

    def _remove(self, room: PurePosixPath) -> None:
        done = self.run(["rm", "-rf", str(room)], timeout_s=_ANSWER_S)
        if done.code:
            raise DeviceError(f"{self.label}: cannot remove {room}: {_reason(done)}")

    def _copy(self, verb: str, source: str, target: str, size: int) -> None:
        self._client(*self._chosen(), verb, source, target, timeout_s=_ANSWER_S + size / _BYTES_PER_S)

    def _chosen(self) -> tuple[str, ...]:
        return ("-s", self._serial) if self._serial else ()

    def _client(self, *arguments: str, timeout_s: float) -> str:
        """Run the adb client; its stdout. Raises DeviceError in one line where it fails."""
        try:
            done = subprocess.run(
                [self._adb, *arguments],
                stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=timeout_s, start_new_session=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise DeviceError(f"{self.label}: no answer within {timeout_s:.0f} s; check the cable") from error
        out, err = _text(done.stdout), _text(done.stderr)
        if done.returncode:
            raise self._lost(err or out, "")
        return out

    def _lost(self, said: str, when: str) -> DeviceError:
        """The adb client's words as one error with the next step."""
        lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith("* daemon")]
        named = [line for line in lines if line.startswith(("adb:", "error:"))] or lines
        text = named[-1].removeprefix("adb: ").removeprefix("error: ") if named else "the connection was closed"
        if "No space left" in said:
            return DeviceError(f"{self.label}: the phone is full ({text}); free space on it and run this again")
        for state, meaning in _STATES.items():
            if f"device {state}" in said or f"device still {state}" in said:
                return DeviceError(f"{self.label}: {state}: {meaning}")
        if when or any(word in said for word in _BROKEN):
            lost = " ".join(filter(None, ("the connection was lost", when)))
            return DeviceError(f"{self.label}: {lost} ({text}); check the cable and run this again")
        return DeviceError(f"{self.label}: adb failed: {text}")


def _listed(out: str) -> dict[str, str]:
    """`adb devices`: serial -> state."""
    rows = (line.split("\t", 1) for line in out.splitlines() if "\t" in line)
    return {serial.strip(): state.strip() for serial, state in rows}


def _only(states: dict[str, str]) -> str:
    """The only phone. Raises DeviceError where there is none or more than one."""
    if len(states) == 1:
        return next(iter(states))
    if not states:
        raise DeviceError("adb: no phone is connected; plug one in with USB debugging on, and check with: adb devices")
    raise DeviceError(f"adb: {len(states)} phones are connected ({', '.join(states)}); name one: adb://SERIAL")


def _require_usable(serial: str, states: dict[str, str]) -> None:
    if serial not in states:
        there = f"connected: {', '.join(states)}" if states else "none is connected"
        hint = f"; for a phone on the network: adb connect {serial}" if ":" in serial else ""
        raise DeviceError(f"adb://{serial}: no phone with this serial number ({there}){hint}; see: adb devices")
    state = states[serial]
    if state != "device":
        meaning = next((text for name, text in _STATES.items() if state.startswith(name)), "boot Android and replug")
        raise DeviceError(f"adb://{serial}: {state.split(';')[0]}: {meaning}")


def _remains(room: PurePosixPath) -> str:
    return f"{room} may remain on the phone: adb shell rm -rf {room}"


def _reason(done: Completed) -> str:
    """The last line a failed command said."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1].strip() if lines else f"exit code {done.code}"


def _text(raw: bytes) -> str:
    """Old phones end lines as terminals do."""
    return raw.decode("utf-8", "replace").replace("\r\n", "\n")
