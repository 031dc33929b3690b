"""What a sandbox phone says of itself, and a stand-in for benchmark_model as a file that can be pushed there."""

from __future__ import annotations

import sys
from pathlib import Path

PROGRAMS = {
    "getprop": """cat <<'END'
[ro.build.version.release]: [14]
[ro.hardware]: [sandbox]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a]
[ro.product.manufacturer]: [Emulated]
[ro.product.model]: [Sandbox 8]
[ro.serialno]: [R5SECRET]
[ro.soc.manufacturer]: [QTI]
[ro.soc.model]: [SM8650]
END""",
    "dumpsys": """case "$1" in
thermalservice) cat "$SANDBOX/thermal" ;;
battery) cat "$SANDBOX/battery" ;;
esac""",
    "settings": 'cat "$SANDBOX/low_power"',
    "uname": 'case "$1" in -m) echo aarch64 ;; -r) echo 6.1.75-android14 ;; esac',
}
THERMAL = """IsStatusOverride: false
Thermal Status: {status}
Cached temperatures:
	Temperature{{mValue=71.5, mType=0, mName=CPU0, mStatus=0}}
HAL Ready: true
Current temperatures from HAL:
	Temperature{{mValue=38.25, mType=0, mName=CPU0, mStatus=0}}
	Temperature{{mValue=41.5, mType=1, mName=GPU0, mStatus=0}}
	Temperature{{mValue=-274.0, mType=3, mName=skin, mStatus=0}}
Current cooling devices from HAL:
	CoolingDevice{{mValue=200, mType=2, mName=cpu}}
"""
CPUINFO = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16\nCPU implementer\t: 0x41\n"


def furnish(root: Path, *, thermal_status: int = 0, charging: bool = True, saver: bool = False) -> None:
    """Programs and files of an Android 14 phone with four cores."""
    (root / "bin").mkdir(parents=True, exist_ok=True)
    for name, body in PROGRAMS.items():
        (root / "bin" / name).write_text(f"#!/bin/sh\n{body}\n")
        (root / "bin" / name).chmod(0o755)
    (root / "thermal").write_text(THERMAL.format(status=thermal_status))
    (root / "battery").write_text(f"Current Battery Service state:\n  status: {2 if charging else 3}\n  level: 80\n")
    (root / "low_power").write_text(f"{int(saver)}\n")
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(CPUINFO)
    (root / "proc/meminfo").write_text("MemTotal:       11618904 kB\nMemFree: 1 kB\n")
    for core, (khz, governor) in enumerate(((1_500_000, "schedutil"), (2_900_000, "walt"))):
        folder = root / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "scaling_cur_freq").write_text(f"{khz}\n")
        (folder / "scaling_governor").write_text(f"{governor}\n")
    (root / "sys/devices/system/cpu/online").write_text("0-3,6\n")


def write_program(path: Path, fault: str = "") -> Path:
    """The stand-in as one file that a shell starts. `fault`: see phone_benchmark_model.FAULTS."""
    script = Path(__file__).with_name("phone_benchmark_model.py")
    path.write_text(f'#!/bin/sh\nSTAND_IN_FAULT={fault} exec "{sys.executable}" "{script}" "$@"\n')
    return path
