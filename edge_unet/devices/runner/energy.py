# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""Energy per run, where the machine has a counter or a meter that this user may read; else None, with no source."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from .reading import number, text

RAPL = "RAPL, whole CPU package, idle power included"
INA = "INA3221 {rail}, whole board, idle power included"
BOARD_RAILS = ("VDD_IN", "POM_5V_IN")
"""The rails that carry the whole board: Orin Nano, Orin NX, Xavier NX; Nano, TX2. Other Jetsons split it over rails
that do not add up to a known whole."""
PERIOD_S = 0.05


def measure_energy(
    run: Callable[[], object], seconds: float, root: Path = Path("/"), clock: Callable[[], float] = time.monotonic
) -> tuple[float | None, str | None]:
    """(millijoule per run, source) of `run` repeated for `seconds`."""
    counters = _rapl(root)
    if counters:
        run()
        before = [number(domain / "energy_uj") for domain, _ in counters]
        runs, _ = _repeat(run, seconds, clock)
        spent_uj = 0.0
        for (domain, wrap), earlier in zip(counters, before):  # noqa: B905 - Python 3.8
            now = number(domain / "energy_uj")
            if now is None or earlier is None:
                return None, None
            spent_uj += now - earlier if now >= earlier else now - earlier + wrap
        return spent_uj / 1000 / runs, RAPL
    found = _board_rail(root)
    if found is None:
        return None, None
    rail, volts, amperes = found
    run()
    with _Meter(volts, amperes) as meter:
        runs, took_s = _repeat(run, seconds, clock)
    watts = meter.mean_w()
    return (None, None) if watts is None else (watts * took_s * 1000 / runs, INA.format(rail=rail))


def _repeat(run: Callable[[], object], seconds: float, clock: Callable[[], float]) -> tuple[int, float]:
    """(runs, seconds they took)."""
    start, runs = clock(), 0
    while runs == 0 or clock() - start < seconds:
        run()
        runs += 1
    return runs, clock() - start


def _rapl(root: Path) -> list[tuple[Path, float]]:
    """(domain, where it wraps) of every socket; empty where one cannot be read: the sum would be wrong without it."""
    found = []
    for domain in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        if domain.name.count(":") == 1:
            found.append((domain, number(domain / "max_energy_range_uj"), number(domain / "energy_uj")))
    if any(wrap is None or now is None for _, wrap, now in found):
        return []
    return [(domain, wrap) for domain, wrap, _ in found if wrap is not None]


def _board_rail(root: Path) -> tuple[str, Path, Path] | None:
    """(rail, millivolt file, milliampere file) of the meter's channel that sees the whole board."""
    for label in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*/in*_label")):
        rail = text(label)
        channel = label.name[len("in") : -len("_label")]
        volts, amperes = label.with_name(f"in{channel}_input"), label.with_name(f"curr{channel}_input")
        if rail in BOARD_RAILS and number(volts) is not None and number(amperes) is not None:
            return rail, volts, amperes
    return None


class _Meter:
    """Reads a rail's power every 50 ms while the block runs."""

    def __init__(self, volts: Path, amperes: Path) -> None:
        self._volts, self._amperes = volts, amperes
        self._readings_w: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def mean_w(self) -> float | None:
        return sum(self._readings_w) / len(self._readings_w) if self._readings_w else None

    def _read(self) -> None:
        while True:
            millivolt, milliampere = number(self._volts), number(self._amperes)
            if millivolt is not None and milliampere is not None:
                self._readings_w.append(millivolt * milliampere / 1e6)
            if self._stop.wait(PERIOD_S):
                return

    def __enter__(self) -> _Meter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
