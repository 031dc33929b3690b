"""This machine, through the same scripts that a device behind ssh runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Literal

from edge_unet.devices import process, scripts
from edge_unet.devices.device import DeviceError
from edge_unet.devices.shell import ShellDevice


class LocalDevice(ShellDevice):
    """A context manager, as every device is; there is nothing to open."""

    @property
    def kind(self) -> Literal["local"]:
        """How it is reached."""
        return "local"

    @property
    def label(self) -> str:
        """'local'."""
        return "local"

    def python(self) -> str:
        """The interpreter of this process, with the runtimes that it finds."""
        return sys.executable

    def _start(self, script: str, arguments: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        return process.start(["sh", "-c", scripts.marked(script), "sh", *arguments])

    def _reconnect(self) -> bool:
        return True

    def _why_lost(self, stderr: str) -> DeviceError:
        return DeviceError("local: the program was killed; the machine may be out of memory")

    def __enter__(self) -> LocalDevice:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close."""
