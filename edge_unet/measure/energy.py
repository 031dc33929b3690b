"""Energy per run from the RAPL counters of x86 CPUs, where the kernel lets this user read them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
SOURCE = "RAPL, whole CPU package, idle power included"


@dataclass(frozen=True)
class _Package:
    """One CPU socket's counter, in microjoule, wrapping at `wrap_uj`."""

    counter: Path
    wrap_uj: int

    def read_uj(self) -> int:
        return int(self.counter.read_text())


def measure_energy(
    run: Callable[[], object],
    *,
    seconds: float = 2.0,
    powercap: Path = POWERCAP,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[float | None, str | None]:
    """(millijoule per run, source) of `run` repeated for `seconds`; (None, None) where no counter can be read.

    The counters cover the whole package, so nothing else should run meanwhile. They tick about every millisecond and
    wrap about once a minute at full load: keep `seconds` well between.
    """
    packages = _readable(powercap)
    if not packages:
        return None, None
    run()
    before = [package.read_uj() for package in packages]
    start, runs = clock(), 0
    while runs == 0 or clock() - start < seconds:
        run()
        runs += 1
    spent_uj = 0
    for package, earlier in zip(packages, before, strict=True):
        difference = package.read_uj() - earlier
        spent_uj += difference if difference >= 0 else difference + package.wrap_uj
    return spent_uj / 1000 / runs, SOURCE


def _readable(powercap: Path) -> list[_Package]:
    """Top-level domains (intel-rapl:0, …), one a socket; their sub-domains are contained in them."""
    found = []
    for domain in sorted(powercap.glob("intel-rapl:*")):
        if domain.name.count(":") != 1:
            continue
        try:
            package = _Package(domain / "energy_uj", int((domain / "max_energy_range_uj").read_text()))
            package.read_uj()
        except (OSError, ValueError):
            return []  # one unreadable socket would make the sum wrong, not smaller
        found.append(package)
    return found
