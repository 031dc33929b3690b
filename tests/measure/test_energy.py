"""RAPL on a planted powercap tree whose counters the subject moves."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_unet.measure.energy import SOURCE, measure_energy


def plant(powercap: Path, socket: int, start_uj: int) -> Path:
    domain = powercap / f"intel-rapl:{socket}"
    domain.mkdir(parents=True)
    (domain / "max_energy_range_uj").write_text("1000000\n")
    (domain / "energy_uj").write_text(f"{start_uj}\n")
    core = powercap / f"intel-rapl:{socket}:0"  # contained in its package, must not be added
    core.mkdir()
    (core / "energy_uj").write_text("0\n")
    (core / "max_energy_range_uj").write_text("1000000\n")
    return domain / "energy_uj"


def test_energy_per_run_over_two_sockets_with_a_wrap(tmp_path: Path) -> None:
    counters = [plant(tmp_path, 0, 100), plant(tmp_path, 1, 995_000)]
    now = [0.0]

    def run() -> None:  # 3000 uJ and 0.1 s a run, on each socket
        now[0] += 0.1
        for counter in counters:
            counter.write_text(str((int(counter.read_text()) + 3000) % 1_000_000))

    energy, source = measure_energy(run, seconds=1.0, powercap=tmp_path, clock=lambda: now[0])
    assert energy == pytest.approx(6.0)  # mJ
    assert source == SOURCE


def test_without_counters_nothing_is_measured_and_nothing_runs(tmp_path: Path) -> None:
    assert measure_energy(lambda: pytest.fail("must not run"), powercap=tmp_path) == (None, None)
    plant(tmp_path, 0, 5).unlink()  # a socket without its counter
    assert measure_energy(lambda: pytest.fail("must not run"), powercap=tmp_path) == (None, None)
