# ruff: noqa: TID252 - the folder is copied out of the package, see __init__
"""Which machine this is, and whether it has the memory to build."""

from __future__ import annotations

import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from .spec import KitError

MIB = 1 << 20
BUILDER_BYTES = 1200 * MIB
"""Allowance for the CUDA context, TensorRT's libraries and the builder itself: an allowance, not a measurement."""
SMALLEST_WORKSPACE = 64 * MIB
LARGEST_WORKSPACE = 1024 * MIB
"""U-Nets of this size gain nothing from more scratch memory."""
NO_INT8 = {"5.3": "Jetson Nano and TX1", "6.0": "Tesla P100", "6.2": "Jetson TX2"}
"""Compute capabilities without INT8 arithmetic."""


@dataclass(frozen=True)
class Machine:
    """What an engine is tied to. An engine built on one Machine runs only on an equal one."""

    tensorrt: str
    compute_capability: str
    l4t: str | None
    """Jetson Linux release, '36.4.0' for JetPack 6.1; None on other machines."""

    def as_json(self) -> dict[str, str | None]:
        """Plain values for the sidecar."""
        return dict(asdict(self))


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes, as found and as planned."""

    available_bytes: int
    needed_bytes: int
    workspace_bytes: int


def l4t_release(text: str) -> str | None:
    """'36.4.0' from the first line of /etc/nv_tegra_release: '# R36 (release), REVISION: 4.0, GCID: ...'."""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    return f"{found.group(1)}.{found.group(2)}" if found else None


def read_l4t(path: Path = Path("/etc/nv_tegra_release")) -> str | None:
    """The Jetson Linux release of this machine, None where it is no Jetson."""
    return l4t_release(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else None


def jetpack_version() -> str | None:
    """Version of the nvidia-jetpack package, None where it is not installed (TensorRT alone may be)."""
    query = ["dpkg-query", "--showformat=${Version}", "--show", "nvidia-jetpack"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def board_name(path: Path = Path("/proc/device-tree/model")) -> str | None:
    """'NVIDIA Jetson Orin Nano ...', None where there is no device tree."""
    return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ") if path.is_file() else None


def mem_available_bytes(meminfo: str) -> int:
    """MemAvailable of /proc/meminfo in bytes. On a Jetson the GPU shares this memory."""
    found = re.search(r"^MemAvailable:\s*(\d+) kB", meminfo, re.MULTILINE)
    if found is None:
        raise KitError("/proc/meminfo: expected a MemAvailable line, found none; give --workspace in MiB")
    return int(found.group(1)) * 1024


def buildable_bytes(l4t: str | None, available_bytes: int, device_free_bytes: int) -> int:
    """What a build may take. A Jetson's GPU uses the same memory, and CUDA does not count the page cache as free
    there; elsewhere the smaller of host and device memory decides."""
    return available_bytes if l4t is not None else min(available_bytes, device_free_bytes)


def plan_memory(available_bytes: int, graph_bytes: int, activation_bytes: int, workspace_mib: int | None) -> MemoryPlan:
    """Choose the builder's workspace, or raise KitError where the build would be killed for memory.

    While building, the graph lies in memory about three times (file, parser, engine) and every activation of a
    timed layer twice. `workspace_mib` None chooses half of what is left, within 64 to 1024 MiB.
    """
    base = BUILDER_BYTES + 3 * graph_bytes + 2 * activation_bytes
    left = available_bytes - base
    chosen = max(SMALLEST_WORKSPACE, min(LARGEST_WORKSPACE, left // 2))
    workspace = chosen if workspace_mib is None else workspace_mib * MIB
    needed = base + workspace
    if needed > available_bytes:
        raise KitError(
            f"not enough memory to build: about {needed // MIB} MiB needed ({workspace // MIB} MiB of it workspace), "
            f"{available_bytes // MIB} MiB available. Close the desktop (sudo systemctl isolate multi-user.target), "
            f"add swap, or give a smaller --workspace (at least {SMALLEST_WORKSPACE // MIB}); --force tries anyway"
        )
    return MemoryPlan(available_bytes, needed, workspace)
