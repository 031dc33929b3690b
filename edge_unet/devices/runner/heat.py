# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""Clocks and heat at one moment, and what changed between two."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .reading import number, text

CPUS = "sys/devices/system/cpu"
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
"""hwmon drivers of CPU temperature, for PCs whose board offers no thermal zone."""
THROTTLE_COUNTS = "thermal_throttle/core_throttle_count"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
"""A Raspberry Pi's firmware: bits of now, and the same 16 higher for 'since boot'."""
FIRMWARE_BITS = {0: "too little voltage", 1: "clock capped", 2: "throttled", 3: "near its heat limit"}
SLOWED = 0b1100
"""Bits under which a Pi runs below its clock for heat."""
FELL = 0.9
"""A clock below this share of the earlier one has fallen."""


@dataclass(frozen=True)
class State:
    """One moment. The first three are core.machine.MachineState."""

    mhz: float | None = None
    temperature_c: float | None = None
    throttle_count: int | None = None
    firmware: int | None = None
    """A Raspberry Pi's bits."""

    def as_json(self) -> dict[str, float | None]:
        """A MachineState as JSON has it."""
        return {"mhz": self.mhz, "temperature_c": self.temperature_c, "throttle_count": self.throttle_count}


def read_state(root: Path = Path("/")) -> State:
    """Clocks and heat now."""
    firmware = text(root / FIRMWARE)
    return State(_mhz(root), _temperature_c(root), _throttle_count(root), _bits(firmware))


def was_throttled(before: State, after: State) -> bool | None:
    """Whether clocks were lowered for heat in between; None where nothing here counts it."""
    if before.throttle_count is not None and after.throttle_count is not None:
        return after.throttle_count > before.throttle_count
    if after.firmware is None:
        return None
    new = after.firmware >> 16 & ~((before.firmware or 0) >> 16) if before.firmware is not None else 0
    return bool((after.firmware | new) & SLOWED)


def changes(before: State, after: State) -> list[str]:
    """What a reader must know about the time in between, in words."""
    found = []
    if was_throttled(before, after):
        found.append("clocks were lowered for heat during the run")
    if before.mhz is not None and after.mhz is not None and after.mhz < FELL * before.mhz:
        found.append(f"the clock fell from {before.mhz:.0f} to {after.mhz:.0f} MHz during the run")
    return found


def firmware_warnings(bits: int | None) -> list[str]:
    """A Pi's bits in words: what holds now, and what has been since boot."""
    found = []
    for bit, words in FIRMWARE_BITS.items():
        if bits is not None and bits >> bit & 1:
            found.append(f"the firmware reports: {words}")
        elif bits is not None and bits >> (bit + 16) & 1:
            found.append(f"the firmware reports since boot: {words}")
    return found


def cpufreq(root: Path) -> Path:
    """The clock's folder of the first core that this process may run on."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    folders = [root / CPUS / f"cpu{core}" / "cpufreq" for core in cores]
    return next((folder for folder in folders if folder.is_dir()), root / CPUS / "cpu0/cpufreq")


def _mhz(root: Path) -> float | None:
    khz = number(cpufreq(root) / "scaling_cur_freq")
    if khz is not None:
        return khz / 1000
    for line in (text(root / "proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "cpu MHz":
            try:
                return float(value)
            except ValueError:
                return None
    return None


def _temperature_c(root: Path) -> float | None:
    """The hottest thermal zone, else the CPU's own sensor."""
    zones = sorted((root / "sys/class/thermal").glob("thermal_zone*/temp"))
    sensors = [s for s in sorted((root / "sys/class/hwmon").glob("hwmon*")) if text(s / "name") in SENSORS]
    inputs = [path for sensor in sensors for path in sorted(sensor.glob("temp*_input"))]
    for places in (zones, inputs):
        readings = [value / 1000 for place in places if (value := number(place)) is not None]
        if readings:
            return max(readings)
    return None


def _throttle_count(root: Path) -> int | None:
    counts = [number(path) for path in sorted((root / CPUS).glob(f"cpu[0-9]*/{THROTTLE_COUNTS}"))]
    known = [int(count) for count in counts if count is not None]
    return sum(known) if known else None


def _bits(words: str | None) -> int | None:
    try:
        return int(words, 16) if words is not None else None
    except ValueError:
        return None
