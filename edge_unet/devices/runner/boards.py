# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""Chips and boards: their names, their power modes, and whether a Jetson holds its clocks."""

from __future__ import annotations

import platform
import re
from pathlib import Path

from .reading import answer, number, text

NVPMODEL = ("usr/sbin/nvpmodel", "usr/bin/nvpmodel")
JETSON_CLOCKS = ("usr/bin/jetson_clocks", "usr/sbin/jetson_clocks")
GPU_CLOCKS = ("sys/class/devfreq/*.gpu", "sys/class/devfreq/*.ga10b", "sys/class/devfreq/*.gv11b")
"""devfreq folders of Jetson GPUs: Orin and Xavier, by kernel."""


def soc_name(root: Path) -> str | None:
    """'NVIDIA Jetson Orin Nano Developer Kit' from the device tree, else the chip's number; None on a PC."""
    return text(root / "proc/device-tree/model") or text(root / "sys/devices/soc0/machine")


def os_name(root: Path) -> str | None:
    """'Ubuntu 22.04.4 LTS', with the Jetson Linux release where there is one."""
    name = platform.system() or None
    for line in (text(root / "etc/os-release") or "").splitlines():
        if line.startswith("PRETTY_NAME="):
            name = line.partition("=")[2].strip("\"'")
    release = jetson_linux(root)
    return f"{name}, Jetson Linux {release}" if release else name


def jetson_linux(root: Path) -> str | None:
    """'36.4.0' from '# R36 (release), REVISION: 4.0, GCID: …'."""
    found = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text(root / "etc/nv_tegra_release") or "")
    return f"{found.group(1)}.{found.group(2)}" if found else None


def power_mode(root: Path) -> str | None:
    """'15W, jetson_clocks on'; None on machines without modes."""
    mode = None
    for place in NVPMODEL:
        found = re.search(r"NV Power Mode:[ \t]*(.+)", answer(root / place, "-q") or "")
        if found:
            mode = found.group(1).strip()
            break
    held = clocks_held(root)
    if held is not None:
        return f"{mode or 'unknown mode'}, jetson_clocks {'on' if held else 'off'}"
    return mode


def clocks_held(root: Path) -> bool | None:
    """Whether jetson_clocks holds CPU and GPU at their highest clocks; None where this is no Jetson.

    jetson_clocks itself answers root only. What it does can be read by anyone: the lowest clock equals the highest.
    """
    if jetson_linux(root) is None and not any((root / place).is_file() for place in JETSON_CLOCKS):
        return None
    for place in JETSON_CLOCKS:
        shown = answer(root / place, "--show")
        if shown and "MinFreq=" in shown:
            return _held_by_words(shown)
    return _held_by_files(root)


def _held_by_words(shown: str) -> bool | None:
    """From 'cpu0: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400 …' and 'GPU MinFreq=… MaxFreq=…'."""
    pairs = []
    for line in shown.splitlines():
        found = re.search(r"MinFreq=(\d+) MaxFreq=(\d+)", line)
        if found and re.match(r"\s*(cpu\d+:.*Online=1|GPU )", line):
            pairs.append((int(found.group(1)), int(found.group(2))))
    return all(lowest == highest for lowest, highest in pairs) if pairs else None


def _held_by_files(root: Path) -> bool | None:
    cpus = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq"))
    gpus = sorted({folder for pattern in GPU_CLOCKS for folder in root.glob(pattern)})
    limits = [(number(c / "scaling_min_freq"), number(c / "scaling_max_freq")) for c in cpus]
    limits += [(number(g / "min_freq"), number(g / "max_freq")) for g in gpus]
    known = [(lowest, highest) for lowest, highest in limits if lowest is not None and highest is not None]
    return all(lowest == highest for lowest, highest in known) if known else None


def clocks_warning(root: Path) -> str | None:
    """jetson_clocks is off: the clocks follow the load, and short runs see the low ones."""
    if clocks_held(root) is False:
        return "jetson_clocks is off; before timing: sudo jetson_clocks"
    return None
