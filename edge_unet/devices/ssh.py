"""A machine behind ssh, through the system's own OpenSSH client: its configuration, keys, agents and jump hosts.

One connection a device, shared by every command (ControlMaster) and closed when this process ends, however it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from edge_unet.core.errors import MissingBackendError
from edge_unet.devices import process, scripts
from edge_unet.devices.device import DeviceError
from edge_unet.devices.shell import ANSWER_S, ShellDevice
from edge_unet.devices.uri import DeviceUri

CONFIG_VARIABLE = "EDGE_UNET_SSH_CONFIG"
"""A configuration file in place of ~/.ssh/config."""
OPTIONS = {
    "BatchMode": "yes",  # a question would wait for an answer forever
    "ConnectTimeout": "10",
    "ServerAliveInterval": "5",  # a dead link is noticed after half a minute
    "ServerAliveCountMax": "6",
    "ControlPersist": "no",
    "RequestTTY": "no",
    "RemoteCommand": "none",
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "PermitLocalCommand": "no",
    "LogLevel": "INFO",
}
_CAUSES = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "its host key is not the one that is known; if you trust the new one: "
    "ssh-keygen -R HOST, then connect once by hand: ssh HOST",
    "Host key verification failed": "its host key is not known here; connect once by hand and compare it: ssh HOST",
    "Permission denied": "it refuses this user or key; set up a key: ssh-copy-id HOST",
    "Too many authentication failures": "it refuses so many keys; name one in ~/.ssh/config (IdentityFile, "
    "IdentitiesOnly yes)",
    "Could not resolve hostname": "no such host; check the name, or add a Host entry to ~/.ssh/config",
    "Connection refused": "nothing listens there; start its ssh server, check the port",
    "Timeout, server": "it does not answer any more; check the cable or network and run it again",
    "timed out": "it does not answer; is it switched on and connected?",
    "No route to host": "there is no way to it; is it switched on and connected?",
    "Network is unreachable": "there is no way to it; is this machine connected?",
}
"""ssh's own words -> what they mean and what to do. The first that is found counts."""


SOCKET_BYTES = 104
"""The shortest limit on the path of a Unix socket: macOS has 104, Linux 108."""
SUFFIX_BYTES = len("/edge-unet-12345678/s.1234567890123456") + 1
"""Our folder in the temporary one, the socket, and what ssh puts behind its name while it makes it."""


def _roomy() -> str | None:
    """Where the control socket's folder goes: the temporary folder, or /tmp where that one's name is too long."""
    usual = tempfile.gettempdir()
    return None if len(os.fsencode(usual)) + SUFFIX_BYTES <= SOCKET_BYTES else "/tmp"


class SshDevice(ShellDevice):
    """A context manager: entering connects, leaving disconnects.

    `host` is looked up by ssh, in `config` where it is given, else in the file that EDGE_UNET_SSH_CONFIG names, else in
    ~/.ssh/config. Entering raises MissingBackendError without ssh, DeviceError where it cannot connect.
    """

    def __init__(
        self, host: str, *, user: str | None = None, port: int | None = None, config: Path | None = None
    ) -> None:
        super().__init__()
        self._uri = DeviceUri("ssh", host=host, user=user, port=port)
        named = os.environ.get(CONFIG_VARIABLE)
        self._config = config or (Path(named) if named else None)
        self._private: Path | None = None
        self._master: subprocess.Popen[bytes] | None = None

    @property
    def kind(self) -> Literal["ssh"]:
        """How it is reached."""
        return "ssh"

    @property
    def label(self) -> str:
        """'ssh://orin'."""
        return str(self._uri)

    def __enter__(self) -> SshDevice:
        if shutil.which("ssh") is None:
            raise MissingBackendError("ssh is not installed here; install it with: sudo apt install openssh-client")
        self._private = Path(tempfile.mkdtemp(prefix="edge-unet-", dir=_roomy()))
        try:
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._disconnect()
        if self._private is not None:
            shutil.rmtree(self._private, ignore_errors=True)
        self._private = None

    def _connect(self) -> None:
        """The first command opens the connection and holds it: it ends when its input does, even with this process."""
        self._master = process.start(self._argv(scripts.GREETING, (), master=True), _environment())
        try:
            process.first_lines(self._master, scripts.MARK, 0, ANSWER_S)
        except process.TimeIsUpError as error:
            raise DeviceError(f"{self.label}: it does not answer; is it switched on and connected?") from error
        if not self._socket().exists():
            raise self._why_lost(process.last_words(self._master)[1])

    def _disconnect(self) -> None:
        if self._master is not None:
            process.end(self._master)
        self._master = None

    def _reconnect(self) -> bool:
        self._disconnect()
        self._connect()
        return True

    def _start(self, script: str, arguments: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        if self._master is None or self._master.poll() is not None:
            raise self._why_lost("")
        return process.start(self._argv(script, arguments, master=False), _environment())

    def _argv(self, script: str, arguments: Sequence[str], *, master: bool) -> list[str]:
        """The command line of ssh. Without a master its way is barred: a command must not connect by itself."""
        line = ["ssh", *(["-F", str(self._config)] if self._config else [])]
        options = {**OPTIONS, "ControlPath": str(self._socket()).replace("%", "%%")}
        options |= {"ControlMaster": "yes"} if master else {"ControlMaster": "no", "ProxyCommand": "false"}
        for name, value in options.items():
            line += ["-o", f"{name}={value}"]
        line += ["-l", self._uri.user] if self._uri.user else []
        line += ["-p", str(self._uri.port)] if self._uri.port else []
        return [*line, "--", self._uri.host, scripts.one_command(script, arguments)]

    def _socket(self) -> Path:
        assert self._private is not None, "used outside its context"
        return self._private / "s"

    def _why_lost(self, stderr: str) -> DeviceError:
        for words, meaning in _CAUSES.items():
            if words in stderr:
                what = meaning.replace("HOST", self._uri.host)
                return DeviceError(f"{self.label}: {what} ({_line_with(words, stderr)})")
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        said = f" ({lines[-1]})" if lines else ""
        return DeviceError(f"{self.label}: the connection was lost{said}; check the cable or network and run it again")


def _line_with(words: str, text: str) -> str:
    return next(line for line in text.splitlines() if words in line).strip(" @\r")


def _environment() -> dict[str, str]:
    """ssh's words in English: they are looked at."""
    return {**os.environ, "LC_ALL": "C"}
