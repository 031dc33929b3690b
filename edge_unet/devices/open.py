"""A device by its URI."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from edge_unet.core.errors import UsageError
from edge_unet.devices.device import Device
from edge_unet.devices.local import LocalDevice
from edge_unet.devices.shell import ShellDevice
from edge_unet.devices.ssh import SshDevice
from edge_unet.devices.uri import DeviceUri, parse_uri


def _open_local(uri: DeviceUri) -> LocalDevice:
    return LocalDevice()


def _open_ssh(uri: DeviceUri) -> SshDevice:
    return SshDevice(uri.host, user=uri.user, port=uri.port)


def _open_adb(uri: DeviceUri) -> AbstractContextManager[Device]:
    from edge_unet.devices.adb import AdbDevice

    return AdbDevice(uri.serial)


HOSTS: dict[str, Callable[[DeviceUri], Any]] = {"local": _open_local, "ssh": _open_ssh}
"""Kinds with a shell and a Python of their own."""
DEVICES: dict[str, Callable[[DeviceUri], Any]] = {**HOSTS, "adb": _open_adb}


def open_device(uri: str) -> AbstractContextManager[Device]:
    """A device to use in a `with` block, which connects. Raises UsageError for anything that is no device URI."""
    parsed = parse_uri(uri)
    device: AbstractContextManager[Device] = DEVICES[parsed.kind](parsed)
    return device


def open_host(uri: str) -> AbstractContextManager[ShellDevice]:
    """A device that runs Python. Raises UsageError for a phone, which has none."""
    parsed = parse_uri(uri)
    if parsed.kind not in HOSTS:
        raise UsageError(f"{uri}: expected a device with Python (local or ssh://…), received a phone behind adb")
    host: AbstractContextManager[ShellDevice] = HOSTS[parsed.kind](parsed)
    return host
