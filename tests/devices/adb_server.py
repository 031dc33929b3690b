"""The device side of adb's protocol, enough for the real `adb` client: what a phone's adbd does, in a sandbox folder.

Its shell is this machine's /bin/sh; paths of a phone (/data/local/tmp, /proc, /sys) are rewritten into the sandbox,
and getprop, dumpsys and settings are small programs there. Faults are planted: see `Faults`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

VERSION, MAX_DATA = 0x01000001, 256 * 1024
HEADER = struct.Struct("<6I")
ROOTS = ("/data/local/tmp", "/proc/", "/sys/")


@dataclass
class Faults:
    """What goes wrong, changed by a test at any time."""

    unauthorized: bool = False
    mute: bool = False
    """Accepts the connection and never answers: 'offline'."""
    space_bytes: int | None = None
    """Bytes that still fit; None is plenty."""
    hang_up_on: str | None = None
    """The link breaks when a shell command that holds this word runs; SEND: in the middle of a file."""
    hang_up_for_good: bool = False
    """After that nobody answers any more."""


@dataclass
class Phone:
    """A sandbox and the socket it answers at. A context manager."""

    root: Path
    features: tuple[str, ...] = ("shell_v2", "cmd", "stat_v2", "ls_v2")
    faults: Faults = field(default_factory=Faults)
    commands: list[str] = field(default_factory=list)
    """Every shell command as it came."""
    address: str = ""
    """For `adb connect`; known on entering."""

    def __enter__(self) -> Phone:
        (self.root / "data/local/tmp").mkdir(parents=True, exist_ok=True)
        (self.root / "bin").mkdir(exist_ok=True)
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        self.hang_up()

    @property
    def left(self) -> list[str]:
        """What lies in the phone's temporary folder."""
        return sorted(p.name for p in (self.root / "data/local/tmp").iterdir())

    def inside(self, text: str) -> str:
        """Rewrite the phone's paths into the sandbox."""
        for path in ROOTS:
            text = text.replace(path, f"{self.root}{path}")
        return text

    def hang_up(self) -> None:
        """Break every link, as a pulled cable does."""
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()
        self._links.clear()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._socket.accept()
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.faults.hang_up_for_good:
                    link.close()
                    continue
                self._links.append(link)
                threading.Thread(target=Link(self, link).serve, daemon=True).start()


class Link:
    """One connection of an adb server: messages of a 24-byte header and a payload, streams by number."""

    def __init__(self, phone: Phone, link: socket.socket) -> None:
        self.phone = phone
        self._link = link
        self._lock = threading.Lock()
        self._streams: dict[int, Stream] = {}

    def serve(self) -> None:
        """Until the other side hangs up."""
        try:
            while True:
                name, arg0, arg1, payload = self._receive()
                self._handle(name, arg0, arg1, payload)
        except (OSError, EOFError):
            for stream in list(self._streams.values()):
                stream.closed()
            self._link.close()

    def send(self, name: bytes, arg0: int, arg1: int, payload: bytes = b"") -> None:
        """One message."""
        command = int.from_bytes(name, "little")
        header = HEADER.pack(command, arg0, arg1, len(payload), sum(payload) & 0xFFFFFFFF, command ^ 0xFFFFFFFF)
        with self._lock:
            self._link.sendall(header + payload)

    def _receive(self) -> tuple[bytes, int, int, bytes]:
        command, arg0, arg1, length, _, _ = HEADER.unpack(self._exactly(HEADER.size))
        return command.to_bytes(4, "little"), arg0, arg1, self._exactly(length)

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            block = self._link.recv(count - len(data))
            if not block:
                raise EOFError
            data += block
        return data

    def _handle(self, name: bytes, arg0: int, arg1: int, payload: bytes) -> None:
        faults = self.phone.faults
        if name in (b"CNXN", b"AUTH"):
            if faults.mute:
                return
            if faults.unauthorized:
                if (name, arg0) != (b"AUTH", 3):  # a public key: now the user is asked
                    self.send(b"AUTH", 1, 0, b"\x07" * 20)
                return
            banner = (
                f"device::ro.product.name=sandbox;ro.product.model=Sandbox;features={','.join(self.phone.features)}"
            )
            self.send(b"CNXN", VERSION, MAX_DATA, banner.encode())
        elif name == b"OPEN":
            stream = Stream(self, len(self._streams) + 1, arg0)
            self._streams[stream.number] = stream
            self.send(b"OKAY", stream.number, arg0)
            service = payload.rstrip(b"\0").decode()
            threading.Thread(target=stream.serve, args=(service,), daemon=True).start()
        elif name == b"WRTE":
            self.send(b"OKAY", arg1, arg0)
            self._streams[arg1].received(payload)
        elif name == b"OKAY" and arg1 in self._streams:
            self._streams[arg1].ready.release()
        elif name == b"CLSE" and arg1 in self._streams:
            self._streams[arg1].closed()


class Stream:
    """One service: shell or sync. The other side's bytes wait in a buffer; each write waits for its OKAY."""

    def __init__(self, link: Link, number: int, remote: int) -> None:
        self.number = number
        self.ready = threading.Semaphore(1)
        self._link, self._remote = link, remote
        self._phone = link.phone
        self._buffer, self._over = b"", False
        self._news = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None

    def received(self, data: bytes) -> None:
        """Bytes came in."""
        with self._news:
            self._buffer += data
            self._news.notify_all()

    def closed(self) -> None:
        """The other side is gone; a program that runs goes on, as on a phone."""
        with self._news:
            self._over = True
            self._news.notify_all()
        self.ready.release()

    def serve(self, service: str) -> None:
        """Run the service to its end."""
        with contextlib.suppress(OSError, EOFError):
            kind, _, rest = service.partition(":")
            if kind == "sync":
                self._sync()
            elif kind.split(",")[0] == "shell":
                self._shell(rest, v2="v2" in kind.split(","))
            self._link.send(b"CLSE", self.number, self._remote)

    def _write(self, data: bytes) -> None:
        for start in range(0, len(data), 64 * 1024):
            self.ready.acquire()
            if self._over:
                raise EOFError
            self._link.send(b"WRTE", self.number, self._remote, data[start : start + 64 * 1024])

    def _read(self, count: int) -> bytes:
        with self._news:
            self._news.wait_for(lambda: len(self._buffer) >= count or self._over)
            if len(self._buffer) < count:
                raise EOFError
            data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def _shell(self, command: str, *, v2: bool) -> None:
        phone = self._phone
        phone.commands.append(command)
        word = phone.faults.hang_up_on
        if word is not None and word in command:
            phone.faults.hang_up_on = None
            threading.Timer(0.3, phone.hang_up).start()
        environment = {"PATH": f"{phone.root}/bin:/usr/bin:/bin", "HOME": str(phone.root), "SANDBOX": str(phone.root)}
        for name in ("PYTHONPATH", "OMP_NUM_THREADS"):
            environment |= {name: os.environ[name]} if name in os.environ else {}
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", phone.inside(command)],
            cwd=phone.root, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE if v2 else subprocess.STDOUT,
        )  # fmt: skip
        pumps = [threading.Thread(target=self._pump, args=(self._process.stdout, 1, v2), daemon=True)]
        if v2:
            pumps.append(threading.Thread(target=self._pump, args=(self._process.stderr, 2, v2), daemon=True))
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        code = self._process.wait()
        if v2:
            self._write(struct.pack("<BI", 3, 1) + bytes([code & 255]))

    def _pump(self, pipe: object, kind: int, v2: bool) -> None:
        with contextlib.suppress(OSError, EOFError):
            while data := os.read(pipe.fileno(), 16 * 1024):  # type: ignore[attr-defined]
                self._write(struct.pack("<BI", kind, len(data)) + data if v2 else data)

    def _sync(self) -> None:
        while True:
            name, length = struct.unpack("<4sI", self._read(8))
            if name == b"QUIT":
                return
            path = self._read(length).decode()
            if name == b"SEND":
                self._take(path)
            elif name == b"RECV":
                self._give(path)
            elif name in (b"STAT", b"STA2", b"LST2"):
                self._stat(name, path)
            elif name in (b"LIST", b"LIS2"):
                size = 16 if name == b"LIST" else 72
                self._write(b"DONE" + b"\0" * size)
            else:
                raise EOFError

    def _take(self, path_and_mode: str) -> None:
        path, _, mode = path_and_mode.rpartition(",")
        target = Path(self._phone.inside(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        faults, fault = self._phone.faults, ""
        with target.open("wb") as file:
            while True:
                name, value = struct.unpack("<4sI", self._read(8))
                if name == b"DONE":
                    break
                data = self._read(value)
                if faults.hang_up_on == "SEND":
                    faults.hang_up_on = None
                    self._phone.hang_up()
                if faults.space_bytes is not None:
                    faults.space_bytes -= len(data)
                    fault = fault or ("write failed: No space left on device" if faults.space_bytes < 0 else "")
                if not fault:
                    file.write(data)
        if fault:
            target.unlink()
            self._write(b"FAIL" + struct.pack("<I", len(fault)) + fault.encode())
            return
        target.chmod(int(mode) & 0o777)
        self._write(b"OKAY" + struct.pack("<I", 0))

    def _give(self, path: str) -> None:
        try:
            data = Path(self._phone.inside(path)).read_bytes()
        except OSError as error:
            said = f"open failed: {error.strerror}".encode()
            self._write(b"FAIL" + struct.pack("<I", len(said)) + said)
            return
        blocks = [data[start : start + 64 * 1024] for start in range(0, len(data), 64 * 1024)]
        for block in blocks:
            self._write(b"DATA" + struct.pack("<I", len(block)) + block)
        self._write(b"DONE" + struct.pack("<I", 0))

    def _stat(self, name: bytes, path: str) -> None:
        try:
            found: os.stat_result | None = Path(self._phone.inside(path)).stat()
        except OSError:
            found = None
        if name == b"STAT":
            values = (found.st_mode, found.st_size, int(found.st_mtime)) if found else (0, 0, 0)
            self._write(name + struct.pack("<3I", *values))
            return
        if found is None:
            self._write(name + struct.pack("<IQQIIIIQqqq", 2, *([0] * 10)))
            return
        times = [int(t) for t in (found.st_atime, found.st_mtime, found.st_ctime)]
        values2 = (0, found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid)
        self._write(name + struct.pack("<IQQIIIIQqqq", *values2, found.st_size, *times))


def alive(pid: int) -> bool:
    """Whether a process runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not (status.is_file() and "State:\tZ" in status.read_text())


def stop(pid: int) -> None:
    """End one process."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def own_adb_server(home: Path) -> Iterator[None]:
    """An adb server of our own: another port, another HOME with other keys."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
        patch.setenv("ADB_MDNS", "0")
        yield
        subprocess.run(["adb", "kill-server"], capture_output=True, check=False, timeout=30)
