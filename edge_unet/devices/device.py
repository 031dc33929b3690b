"""The seam: what a device can do for a benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol

from edge_unet.core.errors import EdgeUnetError

Kind = Literal["local", "ssh", "adb"]


class DeviceError(EdgeUnetError):
    """A device cannot be reached, was lost in the middle, is full, or refused a command."""


@dataclass(frozen=True, slots=True)
class Completed:
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


class Device(Protocol):
    """One machine. Its paths are POSIX paths below a room; nothing that a user named ever reaches a remote shell."""

    @property
    def kind(self) -> Kind:
        """How it is reached."""
        ...

    @property
    def label(self) -> str:
        """What a message calls it: 'ssh://orin'. Not written into results."""
        ...

    def room(self) -> AbstractContextManager[PurePosixPath]:
        """A new empty folder on the device, removed with all that is in it when the block ends, also after an error.
        Raises DeviceError where the device cannot be reached or has no space."""
        ...

    def push(self, source: Path, target: PurePosixPath) -> None:
        """Copy a file, or a folder with all that is in it. Raises DeviceError; nothing half-written is used later."""
        ...

    def pull(self, source: PurePosixPath, target: Path) -> None:
        """Copy one file here, whole or not at all. Raises DeviceError."""
        ...

    def run(self, argv: Sequence[str], *, timeout_s: float, folder: PurePosixPath | None = None) -> Completed:
        """Run a program with exactly these arguments, in `folder`. Its exit code is not an error here.
        Raises DeviceError where the connection is lost or the time is up; the program is ended on the device then."""
        ...
