"""What the machine says, read from planted /proc and /sys trees and from this machine."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy

from edge_unet.measure.environment import installed, read_environment


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_an_x86_machine(tmp_path: Path) -> None:
    root = plant(tmp_path, {
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Test CPU @ 2.50GHz\ncpu MHz\t\t: 2499.998\n"
        "flags\t\t: fpu avx512_vnni amx_int8\n\nprocessor\t: 1\nmodel name\t: other\n",
        "proc/meminfo": "MemTotal:       16384 kB\nMemFree: 1 kB\n",
        "etc/os-release": 'NAME="Test"\nPRETTY_NAME="Test Linux 12"\n',
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "performance\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "3100000\n",
        "sys/class/thermal/thermal_zone0/temp": "41000\n",
        "sys/class/thermal/thermal_zone1/temp": "57500\n",
    })  # fmt: skip
    found = read_environment(threads=2, root=root)
    assert (found.os, found.cpu_model, found.governor) == ("Test Linux 12", "Test CPU @ 2.50GHz", "performance")
    assert (found.mhz, found.temperature_c, found.memory_bytes) == (3100.0, 57.5, 16384 * 1024)
    assert (found.amx, found.vnni, found.threads) == (True, True, 2)


def test_an_arm_board_names_itself_in_the_device_tree(tmp_path: Path) -> None:
    root = plant(tmp_path, {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\n",
        "proc/device-tree/model": "Test Board Rev 1\0",
    })  # fmt: skip
    found = read_environment(root=root)
    assert found.cpu_model == "Test Board Rev 1"
    assert (found.amx, found.vnni) == (False, False)


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    found = read_environment(root=tmp_path)
    assert (found.cpu_model, found.governor, found.mhz, found.temperature_c) == (None, None, None, None)
    assert (found.memory_bytes, found.amx, found.vnni, found.threads) == (None, None, None, None)


def test_this_machine() -> None:
    found = read_environment()
    assert found.python == platform.python_version()
    assert found.packages["numpy"] == numpy.__version__
    assert found.cores_used is None or found.cores_used >= 1
    assert "not-a-package-anywhere" not in installed(["not-a-package-anywhere"])
