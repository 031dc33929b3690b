"""A real sshd of our own on loopback: own keys, port and configuration, and a home and a tmp in a test's folder."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:" + os.environ.get("PATH", ""))
HOST = "loop"
"""The Host entry of the client's configuration."""
CLIENT = """Host loop
  HostKeyAlias loop
Host other-key
  HostKeyAlias other-key
Host stranger
  HostKeyAlias stranger
Host no-key
  HostKeyAlias loop
  IdentityFile {folder}/other_key
Host loop other-key stranger no-key
  HostName 127.0.0.1
  Port {port}
Host loop other-key stranger
  IdentityFile {folder}/user_key
Host absent
  HostName 127.0.0.1
  Port 1
Host *
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
"""
"""other-key: its known key is another one. stranger: no key of it is known. no-key: offers a key that is refused.
absent: nothing listens."""
SERVER = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
SetEnv {environment}
"""


@dataclass(frozen=True)
class Loopback:
    """A running sshd. `config` is for ssh -F; rooms are made in `tmp`."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    @property
    def tmp(self) -> Path:
        return self.folder / "tmp"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def rooms(self) -> list[str]:
        """What lies in the device's tmp."""
        return sorted(entry.name for entry in self.tmp.iterdir())

    def wait_empty(self, seconds: float = 10.0) -> list[str]:
        """The rooms that are left after at most this long."""
        deadline = time.monotonic() + seconds
        while self.rooms() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.rooms()

    def processes(self) -> dict[int, str]:
        """Everything that runs below this sshd: pid -> command line."""
        parents: dict[int, int] = {}
        lines: dict[int, str] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                lines[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except (OSError, ValueError):
                continue
        found, waiting = {}, [self.process.pid]
        while waiting:
            parent = waiting.pop()
            children = [pid for pid, above in parents.items() if above == parent]
            found.update({pid: lines[pid] for pid in children})
            waiting += children
        return found

    def connections(self) -> list[int]:
        """The processes that serve one each."""
        return [pid for pid, line in self.processes().items() if line.startswith("sshd")]

    def kill(self, pids: Iterable[int]) -> None:
        """End connections as a pulled cable does for the device: nobody says goodbye."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cut(self) -> None:
        """Kill every connection that there is."""
        self.kill(self.connections())


def unavailable() -> str | None:
    """Why no sshd can be run here."""
    if SSHD is None:
        return "sshd is not installed (apt-get install openssh-server)"
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        return "ssh is not installed (apt-get install openssh-client)"
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)
    return path.with_suffix(".pub").read_text()


@contextmanager
def loopback(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Loopback]:
    """Start sshd; at the end it is stopped with every connection. `environment` is what sessions get besides."""
    assert SSHD is not None
    for name in ("home", "tmp"):
        (folder / name).mkdir(parents=True)
    host_key, other = make_key(folder / "host_key"), make_key(folder / "other_key")
    (folder / "authorized_keys").write_text(make_key(folder / "user_key"))
    (folder / "known_hosts").write_text(f"{HOST} {host_key}other-key {other}")
    port = free_port()
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "OMP_NUM_THREADS": "1",
        **(environment or {}),
    }
    settings = " ".join(f"{name}={value}" for name, value in variables.items())
    (folder / "sshd_config").write_text(SERVER.format(port=port, folder=folder, environment=settings))
    (folder / "ssh_config").write_text(CLIENT.format(port=port, folder=folder))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start as root without it
    log = (folder / "sshd.log").open("wb")
    process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    running = Loopback(folder, process)
    try:
        wait_for(port, process, folder / "sshd.log")
        yield running
    finally:
        below = running.connections()
        process.terminate()
        process.wait(timeout=10)
        running.kill(below)
        log.close()


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until it listens."""
    for _ in range(100):
        if process.poll() is not None:
            raise RuntimeError(f"sshd ended: {log.read_text()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"sshd does not listen: {log.read_text()}")
