"""What local and ssh devices share: rooms, files and programs through the fixed scripts of devices/scripts.py."""

from __future__ import annotations

import subprocess
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import IO, Literal

from edge_unet.core.errors import MissingBackendError, UsageError
from edge_unet.core.files import written_whole
from edge_unet.devices import process, scripts
from edge_unet.devices.device import Completed, DeviceError

ANSWER_S = 60.0
"""What a healthy device needs for a word, over a slow link with jump hosts."""
COPY_S = 1800.0
LOST = 255
"""ssh's exit code for a connection that failed."""
NO_SPACE = ("No space left", "Disk quota exceeded", "File too large", "Wrote only", "short write")
"""Words of the kernel, GNU tar and busybox."""


class ShellDevice(ABC):
    """A device with a POSIX shell. Subclasses say how a script is started there."""

    def __init__(self) -> None:
        self._rooms: list[PurePosixPath] = []

    @property
    @abstractmethod
    def kind(self) -> Literal["local", "ssh"]:
        """How it is reached."""

    @property
    @abstractmethod
    def label(self) -> str:
        """What a message calls it: 'ssh://orin'."""

    @abstractmethod
    def _start(self, script: str, arguments: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """Start a script with its mark."""

    @abstractmethod
    def _reconnect(self) -> bool:
        """Connect anew after a loss; False where that makes no sense or fails."""

    @abstractmethod
    def _why_lost(self, stderr: str) -> DeviceError:
        """The error for a connection that ended."""

    @contextmanager
    def room(self) -> Iterator[PurePosixPath]:
        """A new folder, removed at the end; by the device itself where the connection is lost."""
        keeper = self._start(scripts.ROOM)
        try:
            room = self._new_room(keeper)
        except BaseException:
            process.end(keeper)
            raise
        self._rooms.append(room)
        try:
            yield room
        except BaseException as error:
            left = self._leave(keeper, room)
            if left and isinstance(error, DeviceError):
                raise DeviceError(f"{error}; {left}") from error
            raise
        else:
            if left := self._leave(keeper, room):
                raise DeviceError(f"{self.label}: {left}")

    def _new_room(self, keeper: subprocess.Popen[bytes]) -> PurePosixPath:
        try:
            lines = process.first_lines(keeper, scripts.MARK, 1, ANSWER_S)
        except process.TimeIsUpError as error:
            raise DeviceError(f"{self.label}: does not answer; check that it is not overloaded") from error
        if lines and lines[0].startswith("/"):
            return PurePosixPath(lines[0])
        code, stderr = process.last_words(keeper)
        if code == LOST:
            raise self._why_lost(stderr)
        raise DeviceError(
            f"{self.label}: cannot make a folder for temporary files: {_first(stderr)}; free some space there"
        )

    def _leave(self, keeper: subprocess.Popen[bytes], room: PurePosixPath) -> str | None:
        """Remove the room; what may be left of it, in words, where nobody answers any more."""
        self._rooms.remove(room)
        if process.end(keeper, ANSWER_S) == 0:
            return None
        with suppress(DeviceError):
            if self._reconnect() and self._do(scripts.SWEEP, [str(room)], "cleaning up").code == 0:
                return None
        return f"the device removes {room} itself once it notices; look there if it does not"

    def push(self, source: Path, target: PurePosixPath) -> None:
        """Copy a file, or a folder with all that is in it, as a tar archive under the target's name."""
        if not source.exists():
            raise UsageError(f"{source}: no such file or folder; nothing to copy to {self.label}")
        done = self._do(
            scripts.UNPACK, [str(target.parent)], f"copying {target.name}", timeout_s=COPY_S,
            feed=lambda pipe: _write_tar(source, target.name, pipe),
        )  # fmt: skip
        if done.code != 0:
            raise DeviceError(f"{self.label}: cannot write {target.name}: {_reason(done.stderr)}")

    def pull(self, source: PurePosixPath, target: Path) -> None:
        """Copy one file here, whole or not at all."""
        code, content, stderr = self._bytes_of(scripts.READ, [str(source)], f"fetching {source.name}", COPY_S)
        if code != 0:
            raise DeviceError(f"{self.label}: cannot read {source.name}: {_reason(stderr)}")
        with written_whole(target) as temporary:
            temporary.write_bytes(content)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        folder: PurePosixPath | None = None,
        heard: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a program; `heard` gets each line of its stdout as it comes. See devices.device.Device.run."""
        room = str(self._rooms[-1]) if self._rooms else ""
        arguments = [room, str(folder or room or "/"), *argv]
        return self._do(
            scripts.RUN, arguments, f"running {PurePosixPath(argv[0]).name}", timeout_s=timeout_s, heard=heard
        )

    def python(self) -> str:
        """The device's Python. Raises MissingBackendError where it has none."""
        done = self._do(scripts.PYTHON, [], "looking for python3")
        if done.code != 0 or not done.stdout.strip():
            raise MissingBackendError(
                f"{self.label}: python3 is missing there; install it on the device: "
                "sudo apt install python3 python3-numpy python3-venv"
            )
        return done.stdout.strip()

    def _do(
        self,
        script: str,
        arguments: Sequence[str],
        what: str,
        *,
        timeout_s: float = ANSWER_S,
        feed: Callable[[IO[bytes]], None] | None = None,
        heard: Callable[[str], None] | None = None,
    ) -> Completed:
        code, stdout, stderr = self._bytes_of(script, arguments, what, timeout_s, feed, heard)
        return Completed(code, stdout.decode("utf-8", "replace"), stderr)

    def _bytes_of(
        self,
        script: str,
        arguments: Sequence[str],
        what: str,
        timeout_s: float,
        feed: Callable[[IO[bytes]], None] | None = None,
        heard: Callable[[str], None] | None = None,
    ) -> tuple[int, bytes, str]:
        """(exit code, what the script printed, stderr). Raises DeviceError where the time is up or the link is gone."""
        started = self._start(script, arguments)
        try:
            if feed is not None and started.stdin is not None:
                with suppress(BrokenPipeError):  # the other side says why, on stderr
                    feed(started.stdin)
                with suppress(BrokenPipeError):
                    started.stdin.close()
            stdout, stderr = process.follow(started, timeout_s, heard and process.after(scripts.MARK, heard))
        except process.TimeIsUpError as error:
            raise DeviceError(f"{self.label}: {what} was not done after {timeout_s:.0f} s; it was ended") from error
        finally:
            code = process.end(started)
        said = stderr.decode("utf-8", "replace")
        if code == LOST or code < 0:
            raise DeviceError(f"{self._why_lost(said)} (while {what})")
        return code, scripts.after_mark(stdout), said


def _write_tar(source: Path, name: str, pipe: IO[bytes]) -> None:
    """An archive with `source` in it as `name`. Links are followed, owners are not kept."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(fileobj=pipe, mode="w|", dereference=True, format=tarfile.GNU_FORMAT) as archive:
        archive.add(source, arcname=name, filter=plain)


def _reason(stderr: str) -> str:
    """Why a copy failed; a full device is called so."""
    if any(words in stderr for words in NO_SPACE):
        return f"no space left on the device; free some ({_first(stderr)})"
    return _first(stderr)


def _first(stderr: str) -> str:
    """The first line is the cause, as tar and sh tell it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[0] if lines else "no reason given"
