# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""The machine, as its kernel describes it: standard library only. What cannot be read is None: not measured.

Everything is read below `root`, so that another machine's /proc, /sys and /etc can be read as well as this one's.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

from . import boards, heat
from .reading import number, text

PACKAGES = ("numpy", "openvino", "onnxruntime", "onnxruntime-gpu", "ai-edge-litert", "tflite-runtime", "tensorrt")
"""What shapes a number here; only those installed are recorded."""

STEADY = ("performance", "userspace")
"""Governors that keep a clock; the others keep it only where its lowest equals its highest."""
HOT_C = 80.0
BATTERIES = "sys/class/power_supply"


def probe(root: Path = Path("/"), packages: Iterable[str] = PACKAGES) -> dict[str, Any]:
    """The fields of core.machine.Environment that a machine can tell about itself, as JSON has them."""
    cpuinfo = read_cpuinfo(root)
    flags = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    state = heat.read_state(root)
    return {
        "soc": boards.soc_name(root),
        "os": boards.os_name(root),
        "kernel": platform.release() or None,
        "machine": platform.machine() or None,
        "cpu_model": cpuinfo.get("model name") or text(root / "proc/device-tree/model") or cpuinfo.get("Hardware"),
        "cores_used": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "governor": text(heat.cpufreq(root) / "scaling_governor"),
        "mhz": state.mhz,
        "temperature_c": state.temperature_c,
        "power_mode": boards.power_mode(root),
        "memory_bytes": _memory_bytes(root),
        "python": platform.python_version(),
        "packages": installed(packages),
        "before": state.as_json(),
        "warnings": warnings(root, state),
        **_arithmetic(flags),
    }


def _arithmetic(flags: set[str]) -> dict[str, bool | None]:
    """What the CPU multiplies in; None where it does not tell its flags."""
    if not flags:
        return {"amx": None, "vnni": None, "bf16": None}
    return {
        "amx": "amx_int8" in flags,
        "vnni": bool(flags & {"avx512_vnni", "avx_vnni"}),
        "bf16": bool(flags & {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}),
    }


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Version of each package that is installed."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def warnings(root: Path, state: heat.State) -> list[str]:
    """Why the machine is not at its stated best before a run."""
    found = [_governor_warning(root), boards.clocks_warning(root), _battery_warning(root)]
    if state.temperature_c is not None and state.temperature_c > HOT_C:
        found.append(f"{state.temperature_c:.0f} °C at the start, above {HOT_C:.0f}; let it cool down")
    return [line for line in found if line] + heat.firmware_warnings(state.firmware)


def _governor_warning(root: Path) -> str | None:
    folder = heat.cpufreq(root)
    governor = text(folder / "scaling_governor")
    if governor is None or governor in STEADY:
        return None
    lowest, highest = number(folder / "scaling_min_freq"), number(folder / "scaling_max_freq")
    if lowest is not None and lowest == highest:
        return None
    return f"governor is {governor} and may lower the clock; before timing: sudo cpupower frequency-set -g performance"


def _battery_warning(root: Path) -> str | None:
    """Laptops lower their clocks on battery."""
    supplies = sorted((root / BATTERIES).glob("*"))
    if any(text(s / "type") == "Battery" and text(s / "status") == "Discharging" for s in supplies):
        return "runs on its battery; plug it in"
    return None


def read_cpuinfo(root: Path) -> dict[str, str]:
    """/proc/cpuinfo of the first core."""
    fields: dict[str, str] = {}
    for line in (text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _memory_bytes(root: Path) -> int | None:
    for line in (text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None
