"""Run the runner on a device and turn its exit codes into errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from edge_unet.core.errors import AccuracyGateError, EdgeUnetError, MissingBackendError
from edge_unet.devices.device import Completed, DeviceError
from edge_unet.devices.pack import NAME
from edge_unet.devices.runner.errors import DISAGREES, MISSING
from edge_unet.devices.shell import NO_SPACE, ShellDevice

KILLED = (137, 253)
SAY, ERROR = "say: ", "error: "


def drive(
    host: ShellDevice, folder: PurePosixPath, arguments: Sequence[str], *, timeout_s: float, say: Callable[[str], None]
) -> str:
    """Run the runner that lies in `folder`; its stdout. Its lines of progress go to `say` as they come.

    Raises MissingBackendError naming what to install on the device, AccuracyGateError where golden masks disagree,
    DeviceError for everything else.
    """

    def hear(line: str) -> None:
        if line.startswith(SAY):
            say(f"{host.label}: {line[len(SAY) :]}")

    done = host.run([host.python(), NAME, *arguments], timeout_s=timeout_s, folder=folder, heard=hear)
    if done.code:
        raise _error(host.label, done)
    return done.stdout


def _error(label: str, done: Completed) -> EdgeUnetError:
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    told = [line[len(ERROR) :] for line in lines if line.startswith(ERROR)]
    message = (told or lines or [f"exit code {done.code}"])[-1]
    if told and done.code == MISSING:
        return MissingBackendError(f"{label}: {message}")
    if told and done.code == DISAGREES:
        return AccuracyGateError(f"{label}: {message}")
    if done.code in KILLED and not told:
        return DeviceError(
            f"{label}: the runner was killed; the device may be out of memory: close other programs there"
        )
    if any(words in message for words in NO_SPACE):
        return DeviceError(f"{label}: no space left on the device; free some ({message})")
    return DeviceError(f"{label}: {message}")
