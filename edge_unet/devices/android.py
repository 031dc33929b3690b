"""A phone, as Android describes it: chip, clocks, heat and battery. What cannot be read is None: not measured."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from edge_unet.core.machine import Environment, MachineState
from edge_unet.devices.device import Device, DeviceError

_MARK = "edge-unet-section "
_SECTIONS = {
    "properties": "getprop",
    "kernel": "uname -r",
    "machine": "uname -m",
    "cpuinfo": "cat /proc/cpuinfo",
    "memory": "cat /proc/meminfo",
    "online": "cat /sys/devices/system/cpu/online",
    "governor": "cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    "khz": "cat /sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq",
    "zones": "cat /sys/class/thermal/thermal_zone*/temp",
    "thermal": "dumpsys thermalservice",
    "battery": "dumpsys battery",
    "saver": "settings get global low_power",
}
_SCRIPT = "; ".join(f"echo; echo {_MARK}{name}; {command} 2>/dev/null" for name, command in _SECTIONS.items())
"""Fixed words only; each command may fail without the others."""
_THERMAL = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
"""Android's thermal statuses by number; from light on clocks are lowered."""
_CHARGING = {"2": "charging", "3": "battery", "4": "battery", "5": "charging"}
"""BatteryManager's status: charging, discharging, not charging, full."""
_ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class PhoneState:
    """One reading of the phone."""

    sections: Mapping[str, str]

    @property
    def properties(self) -> Mapping[str, str]:
        """getprop: '[ro.product.model]: [Pixel 8]'."""
        return dict(re.findall(r"^\[([^\]]+)\]: \[([^\]]*)\]", self.sections.get("properties", ""), re.MULTILINE))

    @property
    def abis(self) -> tuple[str, ...]:
        """What it runs, the best first: ('arm64-v8a', 'armeabi-v7a')."""
        properties = self.properties
        listed = properties.get("ro.product.cpu.abilist") or properties.get("ro.product.cpu.abi") or ""
        return tuple(filter(None, listed.split(",")))

    @property
    def thermal_status(self) -> int | None:
        """0 (none) to 6; before Android 10 there is none."""
        found = re.search(r"Thermal Status: (\d+)", self.sections.get("thermal", ""))
        return int(found.group(1)) if found else None

    @property
    def power_mode(self) -> str | None:
        """'charging' or 'battery'."""
        found = re.search(r"^\s*status: (\d+)", self.sections.get("battery", ""), re.MULTILINE)
        return _CHARGING.get(found.group(1)) if found else None

    @property
    def saver(self) -> bool | None:
        """Whether the battery saver, which lowers clocks, is on."""
        return {"0": False, "1": True, "null": False}.get(self._text("saver") or "")

    def machine_state(self) -> MachineState:
        """The fastest core's clock and the hottest reading. A phone does not tell which core a program ran on."""
        khz = self._numbers("khz")
        return MachineState(mhz=max(khz) / 1000 if khz else None, temperature_c=self._temperature())

    def _temperature(self) -> float | None:
        """Android's own sensors where they are readable, else the kernel's zones, most of which are closed to adb."""
        thermal = self.sections.get("thermal", "")
        current = thermal.partition("Current temperatures from HAL")[2].partition("Current cooling")[0] or thermal
        sensors = [float(v) for v in re.findall(r"Temperature\{mValue=(-?[\d.]+), mType=[0-9], ", current)]
        zones = [value / 1000 if value > 1000 else value for value in self._numbers("zones")]
        plausible = [value for value in (sensors or zones) if 0 < value < 150]
        return max(plausible, default=None)

    def _text(self, name: str) -> str | None:
        return self.sections.get(name, "").strip() or None

    def _numbers(self, name: str) -> list[float]:
        return [float(word) for word in self.sections.get(name, "").split() if re.fullmatch(r"-?\d+(\.\d+)?", word)]

    def _cpuinfo(self, key: str) -> str | None:
        found = re.search(rf"^{key}\s*:\s*(.+)$", self.sections.get("cpuinfo", ""), re.MULTILINE)
        return found.group(1).strip() if found else None

    def _cores(self) -> int | None:
        """'0-3,6' -> 5."""
        spans = re.findall(r"(\d+)(?:-(\d+))?", self._text("online") or "")
        return sum(int(last or first) - int(first) + 1 for first, last in spans) or None

    def _memory_bytes(self) -> int | None:
        found = re.search(r"^MemTotal:\s+(\d+) kB", self.sections.get("memory", ""), re.MULTILINE)
        return int(found.group(1)) * 1024 if found else None

    def _soc(self) -> str | None:
        """'SM8650 (QTI)'; before Android 12 only the board or the hardware is named."""
        properties = self.properties
        model, maker = properties.get("ro.soc.model"), properties.get("ro.soc.manufacturer")
        if model:
            return f"{model} ({maker})" if maker else model
        return properties.get("ro.board.platform") or properties.get("ro.hardware") or self._cpuinfo("Hardware")

    def governors(self) -> str | None:
        """'schedutil', or all of them where cores differ."""
        return ", ".join(sorted(set((self._text("governor") or "").split()))) or None

    def warnings(self) -> list[str]:
        """Why the phone is not at its best."""
        status, governors = self.thermal_status, self.governors() or ""
        found = []
        if self.saver:
            found.append("the battery saver is on; it lowers clocks")
        if status:
            found.append(f"thermal status is {status} ({_THERMAL[min(status, 6)]}); let the phone cool down")
        if self.power_mode == "battery":
            found.append("the phone runs on battery")
        if "powersave" in governors:
            found.append("governor is powersave")
        return found


def read_phone(device: Device) -> PhoneState:
    """Read the phone's state in one command. Raises DeviceError where the connection is lost."""
    done = device.run(["sh", "-c", _SCRIPT], timeout_s=_ANSWER_S)
    parts = done.stdout.split(_MARK)
    if len(parts) != len(_SECTIONS) + 1:
        raise DeviceError(
            f"{device.label}: its shell answered {len(parts) - 1} of {len(_SECTIONS)} questions; try again"
        )
    pairs = (part.partition("\n") for part in parts[1:])
    return PhoneState({name.strip(): body.strip("\n") for name, _, body in pairs})


def phone_environment(
    before: PhoneState, after: PhoneState, *, threads: int, packages: Mapping[str, str]
) -> Environment:
    """The phone with its state on both sides of the benchmark. Its serial number is not in it."""
    properties = before.properties
    statuses = [state.thermal_status for state in (before, after)]
    features = (before._cpuinfo("Features") or "").split()
    release = properties.get("ro.build.version.release")
    model = " ".join(filter(None, map(properties.get, ("ro.product.manufacturer", "ro.product.model")))) or None
    start = before.machine_state()
    warnings = list(dict.fromkeys((*before.warnings(), *after.warnings())))
    return Environment(
        device="adb",
        soc=before._soc(),
        os=f"Android {release}" if release else None,
        kernel=before._text("kernel"),
        machine=before._text("machine") or next(iter(before.abis), None),
        cpu_model=model,
        cores_used=before._cores(),
        threads=threads,
        governor=before.governors(),
        mhz=start.mhz,
        temperature_c=start.temperature_c,
        power_mode=before.power_mode,
        memory_bytes=before._memory_bytes(),
        packages=dict(packages),
        bf16="bf16" in features if features else None,
        before=start,
        after=after.machine_state(),
        throttled=None if None in statuses else any(statuses),
        warnings=tuple(warnings),
    )
