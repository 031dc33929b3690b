"""`edge-unet doctor`: what is installed here and what each target can do with it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from edge_unet.core.errors import ArtifactError
from edge_unet.pipeline.reference import SHIPPED, reference_checkpoint
from edge_unet.targets.registry import TARGETS

PACKAGES = {
    "torch": "train",
    "onnxscript": "train",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "ai-edge-litert": "tflite",
    "coremltools": "coreml",
    "tensorrt": "tensorrt",
    "tflite-micro": "mcu",
    "ethos-u-vela": "mcu",
    "av": "camera",
    "jinja2": "report",
}


def installed(package: str) -> str | None:
    """The installed version of a package, None where it is absent. Nothing is imported."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def examine(device: str = "local") -> list[dict[str, str]]:
    """Rows of name, state (ok, missing, info) and detail, for people and for --json: of this machine, or what a
    device says of itself. Raises DeviceError where it cannot be reached."""
    if device != "local":
        from edge_unet.pipeline.devices import describe, probe

        return describe(probe(device))
    rows = [
        {"name": "python", "state": "ok", "detail": f"{platform.python_version()} on {platform.platform()}"},
        {"name": "cpu", "state": "info", "detail": _cpu()},
    ]
    for package, extra in PACKAGES.items():
        found = installed(package)
        hint = "comes with JetPack" if package == "tensorrt" else f"pip install 'edge-unet[{extra}]'"
        rows.append({"name": package, "state": "ok" if found else "missing", "detail": found or hint})
    have = {extra for package, extra in PACKAGES.items() if installed(package)}
    for target in TARGETS.values():
        able = target.extra in have or not target.executes_here
        where = "executes here" if target.executes_here else "lowered here, runs on the device only"
        detail = f"{target.format}; {where}" if able else f"pip install 'edge-unet[{target.extra}]'"
        rows.append({"name": f"target {target.name}", "state": "ok" if able else "missing", "detail": detail})
    rows.append({"name": "reference model", **_reference()})
    return rows


def _reference() -> dict[str, str]:
    """State and detail of the shipped models: doctor tells what is missing, it never fails on it."""
    try:
        sizes = {name: reference_checkpoint(name).stat().st_size for name in SHIPPED}
    except ArtifactError as error:
        return {"state": "missing", "detail": str(error)}
    return {"state": "ok", "detail": ", ".join(f"{name} {size / 1024:.0f} KiB" for name, size in sizes.items())}


def _cpu() -> str:
    """Model name and the instructions that matter to INT8 and bf16."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    table = {key.strip(): value.strip() for key, value in values.items()}
    flags = set(table.get("flags", table.get("Features", "")).split())
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "avx512_bf16", "asimddp", "i8mm", "bf16")
    return (
        f"{table.get('model name', platform.machine())}; {' '.join(f for f in wanted if f in flags) or 'no INT8 dot'}"
    )
