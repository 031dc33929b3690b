"""`edge-unet devices` and `edge-unet doctor --device URI`: what there is to time on, and what one of them is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_unet.core.errors import EdgeUnetError, UsageError
from edge_unet.core.machine import Environment
from edge_unet.devices.android import phone_environment, read_phone
from edge_unet.devices.device import DeviceError
from edge_unet.devices.drive import drive
from edge_unet.devices.open import open_device, open_host
from edge_unet.devices.pack import NAME, pack_runner
from edge_unet.devices.ssh import CONFIG_VARIABLE
from edge_unet.devices.uri import parse_uri
from edge_unet.measure.environment import read_environment

PROBE_S = 60.0
ADB_S = 10.0
_INCLUDES = 16
"""Include lines may be nested so deep, as in ssh itself."""
RUNTIMES = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "LiteRT": ("ai-edge-litert", "tflite-runtime"),
    "tensorrt": ("tensorrt",),
}
"""What the runner can time with -> the packages that hold it."""


def list_devices(*, reach: bool = False) -> list[dict[str, str]]:
    """Rows of name, state and detail: this machine, the hosts that ssh's configuration names, the phones adb sees.

    Hosts are connected to only with `reach`. Reading the configuration does not run anything that it names.
    """
    here = read_environment()
    rows = [{"name": "local", "state": "here", "detail": here.soc or here.cpu_model or "unknown processor"}]
    config = Path(os.environ.get(CONFIG_VARIABLE) or Path.home() / ".ssh/config")
    for host in dict.fromkeys(ssh_hosts(config)):
        uri = f"ssh://{host}"
        rows.append({"name": uri, **(_reached(uri) if reach else {"state": "configured", "detail": str(config)})})
    return rows + _phones()


def ssh_hosts(config: Path, depth: int = 0) -> Iterator[str]:
    """The Host entries of an ssh configuration that name one host, its Include files too, in order."""
    try:
        lines = config.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        word, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        values = [value.strip('"') for value in rest.split()]
        if word.lower() == "include" and depth < _INCLUDES:
            for value in values:
                pattern = Path(value).expanduser()
                folder = Path("/") if pattern.is_absolute() else Path.home() / ".ssh"
                for file in sorted(folder.glob(str(pattern).lstrip("/"))):
                    yield from ssh_hosts(file, depth + 1)
        elif word.lower() == "host" and not any(re.search(r"[*?!]", value) for value in values):
            yield from (value for value in values if _is_host(value))


def _is_host(name: str) -> bool:
    try:
        return parse_uri(f"ssh://{name}").host == name
    except UsageError:
        return False


def _reached(uri: str) -> dict[str, str]:
    """Whether it lets us in, and what it is."""
    try:
        found = probe(uri)
    except EdgeUnetError as error:
        return {"state": "unreachable", "detail": str(error)}
    return {"state": "reachable", "detail": found.soc or found.cpu_model or "unknown processor"}


def _phones() -> list[dict[str, str]]:
    """What `adb devices -l` lists; nothing where adb is not installed."""
    if shutil.which("adb") is None:
        return []
    try:
        done = subprocess.run(
            ["adb", "devices", "-l"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ADB_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return [{"name": "adb", "state": "unreachable", "detail": f"adb did not answer within {ADB_S:.0f} s"}]
    rows = []
    for line in done.stdout.partition("List of devices attached")[2].splitlines():
        words = line.split()
        if len(words) >= 2:
            model = next((w.partition(":")[2] for w in words if w.startswith("model:")), "")
            rows.append({"name": f"adb://{words[0]}", "state": words[1], "detail": model or "a phone"})
    return rows


def probe(uri: str) -> Environment:
    """The machine behind a URI. Raises DeviceError where it cannot be reached, MissingBackendError where it is no phone
    and has no Python."""
    if parse_uri(uri).kind == "adb":
        with open_device(uri) as phone:
            state = read_phone(phone)
        return phone_environment(state, state, threads=1, packages={}).model_copy(
            update={"threads": None, "after": None}
        )
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as here, open_host(uri) as host, host.room() as room:
        pack_runner(Path(here) / NAME)
        host.push(Path(here) / NAME, room / NAME)
        printed = drive(host, room, ["probe"], timeout_s=PROBE_S, say=lambda line: None)
    try:
        values: dict[str, Any] = json.loads(printed)
        return Environment.model_validate({**values, "device": parse_uri(uri).kind})
    except ValueError as error:
        raise DeviceError(f"{uri}: its answer cannot be read ({error}); try again") from error


def describe(environment: Environment) -> list[dict[str, str]]:
    """Rows of name, state and detail, as `edge-unet doctor` prints them."""
    flags = [name for name in ("amx", "vnni", "bf16") if getattr(environment, name)]
    chip = environment.soc or environment.cpu_model or "unknown"
    values = {
        "chip": chip if not flags else f"{chip}; {' '.join(flags)}",
        "os": f"{environment.os}, kernel {environment.kernel}, {environment.machine}",
        "cores": _words(environment.cores_used),
        "memory": _words(environment.memory_bytes and environment.memory_bytes >> 20, " MiB"),
        "governor": _words(environment.governor),
        "clock": _words(environment.mhz, " MHz"),
        "temperature": _words(environment.temperature_c, " °C"),
        "power mode": _words(environment.power_mode),
        **_python(environment),
    }
    rows = [{"name": name, "state": "info", "detail": detail} for name, detail in values.items()]
    for name, packages in RUNTIMES.items() if environment.python else ():
        found = [
            f"{package} {environment.packages[package]}" for package in packages if package in environment.packages
        ]
        detail = ", ".join(found) or f"install one on the device to time with it: {' or '.join(packages)}"
        rows.append({"name": name, "state": "ok" if found else "missing", "detail": detail})
    return rows + [{"name": "warning", "state": "warning", "detail": line} for line in environment.warnings]


def _python(environment: Environment) -> dict[str, str]:
    """A phone has none: LiteRT's own program is pushed there."""
    numpy = environment.packages.get("numpy", "missing")
    return {"python": f"{environment.python}, numpy {numpy}"} if environment.python else {}


def _words(value: object, unit: str = "") -> str:
    """A value as it is printed; what cannot be read is called so."""
    return "not readable here" if value is None else f"{value}{unit}"
