"""Small files of /proc and /sys, and small programs: what cannot be read is None."""

from __future__ import annotations

import subprocess
from pathlib import Path


def text(path: Path) -> str | None:
    """Contents without surrounding space and NUL; None where there is nothing or it may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t") or None
    except OSError:
        return None


def number(path: Path) -> float | None:
    """The one number in a file."""
    words = text(path)
    try:
        return float(words) if words is not None else None
    except ValueError:
        return None


def answer(program: Path, *arguments: str, seconds: float = 10.0) -> str | None:
    """What a program prints; None where it is absent, fails or does not end."""
    if not program.is_file():
        return None
    try:
        done = subprocess.run(
            [str(program), *arguments],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
