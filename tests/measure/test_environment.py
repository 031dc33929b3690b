"""What the machine says, read from planted /proc and /sys trees and from this machine."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy
import pytest

from edge_unet.core.machine import MachineState
from edge_unet.measure.environment import installed, read_environment, with_after

CPU0 = "sys/devices/system/cpu/cpu0"
ORIN_CORES = range(6)


def plant(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
        if text.startswith("#!"):
            (root / name).chmod(0o755)
    return root


def pc(root: Path, **changed: str) -> Path:
    files = {
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: Test CPU @ 2.50GHz\ncpu MHz\t\t: 2499.998\n"
        "flags\t\t: fpu avx512_vnni amx_int8 amx_bf16\n\nprocessor\t: 1\nmodel name\t: other\n",
        "proc/meminfo": "MemTotal:       16384 kB\nMemFree: 1 kB\n",
        "etc/os-release": 'NAME="Test"\nPRETTY_NAME="Test Linux 12"\n',
        f"{CPU0}/cpufreq/scaling_governor": "performance\n",
        f"{CPU0}/cpufreq/scaling_cur_freq": "3100000\n",
        f"{CPU0}/thermal_throttle/core_throttle_count": "3\n",
        "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
        "sys/class/thermal/thermal_zone0/temp": "41000\n",
        "sys/class/thermal/thermal_zone1/temp": "57500\n",
        "sys/class/power_supply/AC/type": "Mains\n",
        "sys/class/power_supply/BAT0/type": "Battery\n",
        "sys/class/power_supply/BAT0/status": "Full\n",
    }
    return plant(root, {**files, **changed})


def orin(root: Path, *, clocks: str = "off", show: str = "exit 1") -> Path:
    lowest = {"off": 729600, "on": 1510400}[clocks]
    files = {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16\nCPU part\t: 0xd42\n",
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "proc/meminfo": "MemTotal:        7802048 kB\n",
        "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64\n",
        "usr/sbin/nvpmodel": "#!/bin/sh\necho 'NV Power Mode: 15W'\necho 0\n",
        "usr/bin/jetson_clocks": f"#!/bin/sh\n{show}\n",
        "sys/class/thermal/thermal_zone0/temp": "48218\n",
        "sys/class/thermal/thermal_zone8/temp": "49562\n",
        "sys/class/devfreq/17000000.gpu/min_freq": "624750000\n",
        "sys/class/devfreq/17000000.gpu/max_freq": "624750000\n",
    }
    for core in ORIN_CORES:
        place = f"sys/devices/system/cpu/cpu{core}/cpufreq"
        files[f"{place}/scaling_governor"] = "schedutil\n"
        files[f"{place}/scaling_cur_freq"] = "1510400\n"
        files[f"{place}/scaling_min_freq"] = f"{lowest}\n"
        files[f"{place}/scaling_max_freq"] = "1510400\n"
    return plant(root, files)


def pi(root: Path, *, bits: str = "0", temperature: int = 52000, mhz: int = 2400) -> Path:
    return plant(root, {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\n",
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
        f"{CPU0}/cpufreq/scaling_governor": "ondemand\n",
        f"{CPU0}/cpufreq/scaling_cur_freq": f"{mhz * 1000}\n",
        f"{CPU0}/cpufreq/scaling_min_freq": "1500000\n",
        f"{CPU0}/cpufreq/scaling_max_freq": "2400000\n",
        "sys/class/thermal/thermal_zone0/temp": f"{temperature}\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": f"{bits}\n",
    })  # fmt: skip


def test_an_x86_machine(tmp_path: Path) -> None:
    found = read_environment(threads=2, root=pc(tmp_path))
    assert (found.os, found.cpu_model, found.governor) == ("Test Linux 12", "Test CPU @ 2.50GHz", "performance")
    assert (found.mhz, found.temperature_c, found.memory_bytes) == (3100.0, 57.5, 16384 * 1024)
    assert (found.amx, found.vnni, found.bf16, found.threads) == (True, True, True, 2)
    assert (found.soc, found.power_mode, found.warnings) == (None, None, ())
    assert found.before == MachineState(mhz=3100.0, temperature_c=57.5, throttle_count=7)
    assert (found.device, found.after, found.throttled) == ("local", None, None)


def test_an_arm_board_names_itself_in_the_device_tree(tmp_path: Path) -> None:
    root = plant(tmp_path, {
        "proc/cpuinfo": "processor\t: 0\nFeatures\t: fp asimd asimddp\n",
        "proc/device-tree/model": "Test Board Rev 1\0",
    })  # fmt: skip
    found = read_environment(root=root)
    assert (found.cpu_model, found.soc) == ("Test Board Rev 1", "Test Board Rev 1")
    assert (found.amx, found.vnni, found.bf16) == (False, False, False)


def test_a_jetson_whose_clocks_follow_the_load(tmp_path: Path) -> None:
    found = read_environment(root=orin(tmp_path))
    assert found.soc == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found.os == "Ubuntu 22.04.4 LTS, Jetson Linux 36.4.0"
    assert (found.power_mode, found.temperature_c, found.bf16) == ("15W, jetson_clocks off", 49.562, True)
    assert [w.split(";")[0] for w in found.warnings] == [
        "governor is schedutil and may lower the clock",
        "jetson_clocks is off",
    ]


def test_a_jetson_whose_clocks_are_held(tmp_path: Path) -> None:
    """By files, since jetson_clocks answers root only; schedutil at its maximum is no reason to warn."""
    found = read_environment(root=orin(tmp_path, clocks="on"))
    assert (found.power_mode, found.governor, found.warnings) == ("15W, jetson_clocks on", "schedutil", ())


@pytest.mark.parametrize(("gpu", "expected"), [(624750000, "on"), (306000000, "off")])
def test_a_jetson_that_answers_root(tmp_path: Path, gpu: int, expected: str) -> None:
    """jetson_clocks' own words go before the files; an idle DLA and switched-off cores do not count."""
    show = f"""cat <<END
SOC family:tegra234  Machine:NVIDIA Jetson Orin Nano Developer Kit
cpu0: Online=1 Governor=schedutil MinFreq=1510400 MaxFreq=1510400 CurrentFreq=1510400 IdleStates: WFI=0 c7=0
cpu5: Online=0 Governor=schedutil MinFreq=729600 MaxFreq=1510400 CurrentFreq=729600 IdleStates: WFI=0 c7=0
GPU MinFreq={gpu} MaxFreq=624750000 CurrentFreq=624750000
DLA0_CORE:   Online=0 MinFreq=0 MaxFreq=614400000 CurrentFreq=0
END"""
    found = read_environment(root=orin(tmp_path, show=show))
    assert found.power_mode == f"15W, jetson_clocks {expected}"


def test_a_jetson_without_nvpmodel(tmp_path: Path) -> None:
    root = orin(tmp_path)
    (root / "usr/sbin/nvpmodel").write_text("#!/bin/sh\nexit 1\n")
    assert read_environment(root=root).power_mode == "unknown mode, jetson_clocks off"


def test_a_pi_that_was_throttled_before_and_now(tmp_path: Path) -> None:
    found = read_environment(root=pi(tmp_path, bits="50005", temperature=83500))
    assert (found.soc, found.governor, found.throttled) == ("Raspberry Pi 5 Model B Rev 1.0", "ondemand", None)
    assert found.before == MachineState(mhz=2400.0, temperature_c=83.5)
    assert [w.split(";")[0] for w in found.warnings] == [
        "governor is ondemand and may lower the clock",
        "84 °C at the start, above 80",
        "the firmware reports: too little voltage",
        "the firmware reports: throttled",
    ]
    before = read_environment(root=pi(tmp_path, bits="40000"))
    assert before.warnings[-1] == "the firmware reports since boot: throttled"


def test_after_a_quiet_run(tmp_path: Path) -> None:
    root = pc(tmp_path)
    done = with_after(read_environment(root=root), root=root)
    assert (done.after, done.throttled, done.warnings) == (done.before, False, ())


def test_after_a_run_that_was_slowed(tmp_path: Path) -> None:
    before = read_environment(root=pc(tmp_path))
    slowed = {f"{CPU0}/thermal_throttle/core_throttle_count": "9\n", f"{CPU0}/cpufreq/scaling_cur_freq": "2000000\n"}
    done = with_after(before, root=pc(tmp_path, **slowed))
    assert done.after == MachineState(mhz=2000.0, temperature_c=57.5, throttle_count=13)
    assert done.throttled is True
    assert done.warnings == (
        "clocks were lowered for heat during the run",
        "the clock fell from 3100 to 2000 MHz during the run",
    )


@pytest.mark.parametrize(("bits", "throttled"), [("0", False), ("1", False), ("4", True), ("8", True)])
def test_after_a_run_on_a_pi(tmp_path: Path, bits: str, throttled: bool) -> None:
    before = read_environment(root=pi(tmp_path))
    done = with_after(before, root=pi(tmp_path, bits=bits))
    assert done.throttled is throttled


def test_a_laptop_on_its_battery(tmp_path: Path) -> None:
    found = read_environment(root=pc(tmp_path, **{"sys/class/power_supply/BAT0/status": "Discharging\n"}))
    assert found.warnings == ("runs on its battery; plug it in",)


def test_a_pc_without_thermal_zones_has_a_cpu_sensor(tmp_path: Path) -> None:
    root = plant(tmp_path, {
        "sys/class/hwmon/hwmon0/name": "nvme\n",
        "sys/class/hwmon/hwmon0/temp1_input": "90000\n",
        "sys/class/hwmon/hwmon1/name": "k10temp\n",
        "sys/class/hwmon/hwmon1/temp1_input": "44125\n",
        "sys/class/hwmon/hwmon1/temp3_input": "45500\n",
    })  # fmt: skip
    assert read_environment(root=root).temperature_c == 45.5


def test_what_cannot_be_read_is_none(tmp_path: Path) -> None:
    found = read_environment(root=tmp_path)
    assert (found.cpu_model, found.governor, found.mhz, found.temperature_c) == (None, None, None, None)
    assert (found.memory_bytes, found.amx, found.vnni, found.bf16, found.threads) == (None, None, None, None, None)
    assert (found.soc, found.power_mode, found.before, found.warnings) == (None, None, MachineState(), ())
    assert with_after(found, root=tmp_path).throttled is None


def test_this_machine() -> None:
    found = with_after(read_environment())
    assert found.python == platform.python_version()
    assert found.packages["numpy"] == numpy.__version__
    assert found.cores_used is None or found.cores_used >= 1
    assert found.after is not None
    assert "not-a-package-anywhere" not in installed(["not-a-package-anywhere"])
