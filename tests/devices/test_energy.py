"""A machine without an energy source."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_unet.devices.runner.energy import measure_energy


def plant(root: Path, socket: int, start_uj: int) -> Path:
    powercap = root / "sys/class/powercap"
    domain = powercap / f"intel-rapl:{socket}"
    domain.mkdir(parents=True)
    (domain / "max_energy_range_uj").write_text("1000000\n")
    (domain / "energy_uj").write_text(f"{start_uj}\n")
    core = powercap / f"intel-rapl:{socket}:0"  # contained in its package, must not be added
    core.mkdir()
    (core / "energy_uj").write_text("0\n")
    (core / "max_energy_range_uj").write_text("1000000\n")
    return domain / "energy_uj"


def test_without_counters_nothing_is_measured_and_nothing_runs(tmp_path: Path) -> None:
    assert measure_energy(lambda: pytest.fail("must not run"), 1.0, tmp_path) == (None, None)
    plant(tmp_path, 0, 5).unlink()  # a socket without its counter
    assert measure_energy(lambda: pytest.fail("must not run"), 1.0, tmp_path) == (None, None)
