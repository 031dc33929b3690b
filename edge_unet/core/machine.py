"""The machine that a number was taken on, before and after."""

from __future__ import annotations

from collections.abc import Mapping

from edge_unet.core.spec import Frozen


class MachineState(Frozen):
    """Clocks and heat at one moment. None: not readable on this machine."""

    mhz: float | None = None
    """Current clock of the first core that the work ran on."""
    temperature_c: float | None = None
    """The hottest thermal zone."""
    throttle_count: int | None = None
    """How often the cores have lowered their clocks for heat since boot, all cores together."""


class Environment(Frozen):
    """The machine a number was taken on. None: could not be read."""

    device: str = "local"
    """How it was reached: local, ssh, adb, or mac (an imported result). Never a host or serial number."""
    soc: str | None = None
    """Chip or board: 'NVIDIA Jetson Orin Nano', 'SM8650'."""
    os: str | None = None
    kernel: str | None = None
    machine: str | None = None
    """Instruction set: x86_64, aarch64."""
    cpu_model: str | None = None
    cores_used: int | None = None
    """Cores this process may run on."""
    threads: int | None = None
    governor: str | None = None
    mhz: float | None = None
    temperature_c: float | None = None
    power_mode: str | None = None
    """nvpmodel's mode and whether jetson_clocks holds the clocks; 'battery' or 'charging' on a phone."""
    memory_bytes: int | None = None
    python: str | None = None
    packages: Mapping[str, str] = {}
    amx: bool | None = None
    """AMX INT8 tiles."""
    vnni: bool | None = None
    """AVX512-VNNI or AVX-VNNI."""
    bf16: bool | None = None
    """AVX512-BF16, AMX-BF16 or Arm bf16."""
    before: MachineState | None = None
    after: MachineState | None = None
    throttled: bool | None = None
    """Whether clocks were lowered for heat between `before` and `after`."""
    warnings: tuple[str, ...] = ()
    """Why the machine is not at its stated best: 'governor is powersave', 'jetson_clocks is off', …"""
