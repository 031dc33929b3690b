"""`--device`: local | ssh://[user@]host[:port] | adb://SERIAL. What could be an option or shell text is refused."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from edge_unet.core.errors import UsageError
from edge_unet.devices.device import Kind

FORMS = "local, ssh://[user@]host[:port] or adb://SERIAL"
_USER = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*"
_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*)|\[[0-9A-Fa-f:.]+\]"
_SSH = re.compile(rf"ssh://(?:(?P<user>{_USER})@)?(?P<host>{_HOST})(?::(?P<port>[0-9]{{1,5}}))?")
_ADB = re.compile(r"adb://(?P<serial>[A-Za-z0-9][A-Za-z0-9._:-]*)")
_KINDS = ("local", "ssh", "adb")


@dataclass(frozen=True, slots=True)
class DeviceUri:
    """Where a device is. `host` is a name that ssh looks up in its configuration, or an address."""

    kind: Kind
    host: str = ""
    user: str | None = None
    port: int | None = None
    serial: str = ""

    def __str__(self) -> str:
        """The form that parse_uri reads."""
        if self.kind == "local":
            return "local"
        if self.kind == "adb":
            return f"adb://{self.serial}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ssh://{f'{self.user}@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"


def parse_uri(text: str) -> DeviceUri:
    """Read --device. Raises UsageError that shows the expected form and the nearest one to what was received."""
    if text == "local":
        return DeviceUri("local")
    if found := _ADB.fullmatch(text):
        return DeviceUri("adb", serial=found["serial"])
    found = _SSH.fullmatch(text)
    port = int(found["port"]) if found and found["port"] else None
    if found is None or (port is not None and not 0 < port < 65536):
        raise UsageError(f"device {text!r}: expected {FORMS}; did you mean {_nearest(text)}?")
    return DeviceUri("ssh", host=found["host"].strip("[]"), user=found["user"], port=port)


def _nearest(text: str) -> str:
    """The nearest thing that is a device, made of what was received."""
    scheme, separator, rest = text.strip().partition("://")
    if not separator:
        scheme, _, rest = text.strip().rpartition(":/") if ":/" in text else ("", "", text)
    near = difflib.get_close_matches(scheme.strip(":/").lower() or rest.lower(), _KINDS, n=1)
    kind = near[0] if near else "ssh"
    if kind == "local":
        return "local"
    if kind == "adb":
        return f"adb://{re.sub(r'[^A-Za-z0-9._:-]', '', rest).lstrip('-._:') or 'SERIAL'}"
    found = re.match(
        rf"(?:({_USER})@)?({_HOST})(?::([0-9]{{1,5}}))?", re.sub(r"[^A-Za-z0-9_.+@:\[\]-]", "", rest).lstrip("-")
    )
    if found is None:
        return "ssh://HOST"
    user, host, port = found.groups()
    return f"ssh://{f'{user}@' if user else ''}{host}{f':{port}' if port and 0 < int(port) < 65536 else ''}"
