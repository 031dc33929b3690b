"""A fresh Python in which some packages cannot be imported, as on a machine where they were never installed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

_PREAMBLE = """
import importlib.metadata, sys

BLOCKED = {blocked!r}


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


real = importlib.metadata.version


def version(package):
    if package.replace("-", "_") in BLOCKED:
        raise importlib.metadata.PackageNotFoundError(package)
    return real(package)


importlib.metadata.version = version
sys.meta_path.insert(0, Blocker())
"""


def run_without(packages: Sequence[str], code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `code` where importing any of `packages` fails and their versions are unknown."""
    source = _PREAMBLE.format(blocked=tuple(packages)) + code
    command = [sys.executable, "-c", source, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
