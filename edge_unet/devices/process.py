"""A program here, followed to its end or to a deadline: lines as they come, everything it said afterwards."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

Heard = Callable[[str], None]
_LINGER_S = 3.0
"""How long a program that was told to end may take."""


class TimeIsUpError(Exception):
    """The program did not end in time. It was ended."""


def start(argv: Sequence[str], environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, so that Ctrl-C reaches us alone and we end it in order."""
    return subprocess.Popen(
        list(argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        start_new_session=True,
    )  # fmt: skip


def follow(process: subprocess.Popen[bytes], timeout_s: float, heard: Heard | None = None) -> tuple[bytes, bytes]:
    """(stdout, stderr) of a program until both are closed. `heard` gets each line of stdout as it comes.

    Its stdin stays open: the programs here take its end for 'stop'. Raises TimeIsUpError, after ending it.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    deadline = time.monotonic() + timeout_s
    said: dict[int, bytearray] = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
    out, err = said
    told = 0
    with selectors.DefaultSelector() as selector:
        for stream in said:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeIsUpError
            for key, _ in ready:
                block = os.read(key.fd, 1 << 16)
                said[key.fd] += block
                if not block:
                    selector.unregister(key.fd)
            told = _tell(said[out], told, heard)
    return bytes(said[out]), bytes(said[err])


def _tell(text: bytearray, told: int, heard: Heard | None) -> int:
    """Pass on the whole lines that nobody has heard; returns how far."""
    end = text.rfind(b"\n") + 1
    if heard is not None and end > told:
        for line in bytes(text[told:end]).decode("utf-8", "replace").splitlines():
            heard(line)
    return max(end, told)


def first_lines(process: subprocess.Popen[bytes], mark: str, count: int, timeout_s: float) -> list[str]:
    """The first `count` lines after the line `mark`, fewer where the output ends before. Raises TimeIsUpError."""
    assert process.stdout is not None
    deadline, said, wanted = time.monotonic() + timeout_s, bytearray(), mark.encode() + b"\n"
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            _, found, after_it = bytes(said).partition(wanted)
            if found and after_it.count(b"\n") >= count:
                return after_it.decode("utf-8", "replace").splitlines()[:count]
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeIsUpError
            block = os.read(process.stdout.fileno(), 1 << 12)
            if not block:
                return []
            said += block


def last_words(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """(exit code, stderr) of a program that is told to stop now."""
    try:
        _, stderr = process.communicate(timeout=_LINGER_S)
    except subprocess.TimeoutExpired:
        _kill(process)
        _, stderr = process.communicate()
    return process.returncode, stderr.decode("utf-8", "replace")


def after(mark: str, heard: Heard) -> Heard:
    """Hears only what comes after the line `mark`."""
    begun = False

    def hear(line: str) -> None:
        nonlocal begun
        if begun:
            heard(line)
        begun = begun or line.endswith(mark)

    return hear


def end(process: subprocess.Popen[bytes], linger_s: float = _LINGER_S) -> int:
    """Close its stdin, which tells it to stop, and wait; a program that lingers is killed with its children."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    try:
        code = process.wait(linger_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        code = process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    return code


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
