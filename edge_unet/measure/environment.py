"""The machine, as the kernel describes it. What cannot be read is None: not measured."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from edge_unet.core.machine import Environment

PACKAGES = ("edge-unet", "numpy", "onnx", "onnxruntime", "openvino", "ai-edge-litert", "coremltools", "opencv-python-headless")  # noqa: E501  # fmt: skip
"""What shapes a number; only those installed are recorded."""

_CPUFREQ = "sys/devices/system/cpu/cpu0/cpufreq"


def read_environment(
    *, threads: int | None = None, packages: Iterable[str] = PACKAGES, root: Path = Path("/")
) -> Environment:
    """Describe this machine. `threads` is what the runtimes were told to use; `root` is where /proc and /sys lie."""
    cpuinfo = _cpuinfo(root)
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    return Environment(
        os=_os_name(root),
        kernel=platform.release() or None,
        machine=platform.machine() or None,
        cpu_model=_cpu_model(root, cpuinfo),
        cores_used=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        threads=threads,
        governor=_text(root / _CPUFREQ / "scaling_governor"),
        mhz=_mhz(root, cpuinfo),
        temperature_c=_temperature(root),
        memory_bytes=_memory(root),
        python=platform.python_version(),
        packages=installed(packages),
        amx="amx_int8" in flags if flags else None,
        vnni=bool(flags & {"avx512_vnni", "avx_vnni"}) if flags else None,
    )


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Version of each package that is installed."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n\t") or None
    except OSError:
        return None


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return float(text) if text is not None else None
    except ValueError:
        return None


def _cpuinfo(root: Path) -> dict[str, str]:
    """/proc/cpuinfo of the first core."""
    fields: dict[str, str] = {}
    for line in (_text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _cpu_model(root: Path, cpuinfo: dict[str, str]) -> str | None:
    """An arm board names itself in its device tree; /proc/cpuinfo has no model there."""
    return cpuinfo.get("model name") or _text(root / "proc/device-tree/model") or cpuinfo.get("Hardware")


def _mhz(root: Path, cpuinfo: dict[str, str]) -> float | None:
    khz = _number(root / _CPUFREQ / "scaling_cur_freq")
    if khz is not None:
        return khz / 1000
    try:
        return float(cpuinfo["cpu MHz"])
    except (KeyError, ValueError):
        return None


def _temperature(root: Path) -> float | None:
    """The hottest thermal zone."""
    zones = (root / "sys/class/thermal").glob("thermal_zone*/temp")
    readings = [value / 1000 for zone in zones if (value := _number(zone)) is not None]
    return max(readings, default=None)


def _memory(root: Path) -> int | None:
    for line in (_text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _os_name(root: Path) -> str | None:
    for line in (_text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return platform.system() or None
