#!/usr/bin/env python3
"""Time Core ML bundles on a Mac (or an attached iPhone) and write a JSON that edge-unet imports.

    python3 -m pip install coremltools pillow numpy
    python3 bench_coreml.py model-ios-int8 model-ios-fp16 --compute-units cpu+ne --out result.json
    edge-unet bench model-ios-int8 model-ios-fp16 --imported result.json        (back on the first machine)

Give the FP16 bundle beside the INT8 one (edge-unet export --target ios --precision fp16): bundles are timed by turns.
Runs by itself with Python 3.9 or newer, numpy, Pillow and coremltools; nothing of edge_unet has to be there.

THE AUTHORS NEVER RAN IT ON A MAC. Its own logic is tested elsewhere with a stand-in for coremltools; what it calls of
coremltools 9 was read from that package's source. --iphone uses coremltools' experimental model runner: it needs
Xcode, a signing team, developer mode on the phone, and coremltools newer than 9.0, whose runner takes no images.

Protocol: at least 10 runs and 1 s of warm-up, then bursts of 5 by turns (one more at the head of each burst is not
counted) until 1024 runs or 60 s; --rapid: 64 runs or 6 s. Exit codes: 0 done, 1 failed, 2 wrong use, 5 not installed.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

FORMAT, FORMAT_VERSION = "edge_unet bench_coreml", 1
UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu+gpu": "CPU_AND_GPU", "cpu+ne": "CPU_AND_NE"}
FULL = {"warmup_runs": 10, "warmup_ns": 10**9, "runs": 1024, "limit_ns": 60 * 10**9, "burst": 5, "discarded": 1}
RAPID = {**FULL, "runs": 64, "limit_ns": 6 * 10**9}
Run = Callable[[], int]
NO_LAYERS = {"const", "cast", "identity"}


class Problem(Exception):  # noqa: N818 - its message is all that the user sees
    """Something the user can act on, in one line, with the exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class LocalModel:
    """A package opened on this Mac."""

    def __init__(self, path: Path, units: str) -> None:
        coremltools = require("coremltools")
        self._units = getattr(coremltools.ComputeUnit, UNITS[units])
        try:
            self._model = coremltools.models.MLModel(str(path), compute_units=self._units)
        except Exception as error:  # coremltools raises its own kinds, and Exception itself
            raise Problem(f"{path}: Core ML cannot open the package: {error}") from error

    def predict(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """(outputs, nanoseconds). Core ML's own time where it tells it, else that of the call from Python."""
        start = time.perf_counter_ns()
        outputs = self._model.predict(inputs)
        wall = time.perf_counter_ns() - start
        own = getattr(self._model, "last_predict_duration_in_nano_seconds", None)
        return outputs, int(own) if own else wall

    @property
    def clock(self) -> str:
        """Who measured, for the result. Known after the first prediction."""
        own = getattr(self._model, "last_predict_duration_in_nano_seconds", None)
        return "Core ML's own time of the prediction" if own else "time of predict() from Python, conversions included"

    def plan(self) -> Any:
        """MLComputePlan of the compiled model; None where this coremltools has none."""
        try:
            from coremltools.models.compute_plan import MLComputePlan
        except ImportError:
            return None
        return MLComputePlan.load_from_path(self._model.get_compiled_model_path(), compute_units=self._units)


class PhoneModel:
    """A package opened on an attached iPhone, by way of coremltools' experimental model runner."""

    def __init__(self, path: Path, units: str, phone: Any) -> None:
        coremltools = require("coremltools")
        from coremltools.models.ml_program.experimental.async_wrapper import MLModelAsyncWrapper

        self._loop = asyncio.new_event_loop()
        self._model = MLModelAsyncWrapper.from_spec_or_path(
            str(path),
            weights_dir=str(path / "Data/com.apple.CoreML/weights"),
            compute_units=getattr(coremltools.ComputeUnit, UNITS[units]),
            device=phone,
        )
        self._loop.run_until_complete(self._model.load())

    def predict(self, inputs: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """(outputs, nanoseconds on the phone)."""
        outputs = self._loop.run_until_complete(self._model.predict(inputs))
        own = self._model.last_predict_duration_in_nano_seconds
        if not own:
            raise Problem("the phone's model runner does not tell how long a prediction took; update coremltools")
        return outputs, int(own)

    clock = "the phone's model runner"

    def plan(self) -> Any:
        """The phone's own plan."""
        return self._loop.run_until_complete(self._model.retrieve_compute_plan())


def require(module: str) -> Any:
    """Import a package or say how to install it."""
    try:
        return __import__(module)
    except ImportError as error:
        raise Problem(
            f"{module} is not installed ({error}): python3 -m pip install coremltools pillow numpy", 5
        ) from error


def sha256_of(path: Path) -> str:
    """As edge_unet hashes a folder: sorted relative names, each with the hash of its file."""
    if not path.is_dir():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(file.relative_to(path).as_posix().encode() + b"\0" + sha256_of(file).encode())
    return digest.hexdigest()


def read_bundle(folder: Path) -> dict[str, Any]:
    """manifest.json of an ios bundle whose package is what the manifest says."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        artifact = manifest["artifact"]
        target, expected = artifact["target"], artifact["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Problem(f"{folder}: not a bundle ({error}); write one with: edge-unet export --target ios", 2) from error
    if target != "ios":
        raise Problem(f"{folder}: a bundle for {target}, expected ios: edge-unet export --target ios", 2)
    package = folder / artifact["path"]
    if not package.is_dir():
        raise Problem(f"{package}: missing; copy the whole bundle")
    received = sha256_of(package)
    if received != expected:
        raise Problem(
            f"{package}: sha256 expected {expected[:12]}, received {received[:12]}: the package was changed "
            "(Finder adds .DS_Store: delete it, and copy with ditto, scp or a zip file)"
        )
    return manifest


def read_image(path: Path, mode: str) -> Any:
    """A golden frame as Core ML takes it, or a mask."""
    require("PIL")
    from PIL import Image

    with Image.open(path) as image:
        return image.convert(mode)


def mask_of(logits: Any) -> Any:
    """(1, C, H, W) logits -> (H, W) class ids: logit > 0 for one channel, else argmax."""
    numpy = require("numpy")
    logits = numpy.asarray(logits)
    return (logits[0, 0] > 0).astype(numpy.uint8) if logits.shape[1] == 1 else logits[0].argmax(0).astype(numpy.uint8)


def check_golden(model: Any, folder: Path, manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Masks of the golden frames against the reference's, and the feeds of the first frame."""
    numpy = require("numpy")
    name, output = manifest["artifact"]["inputs"][0]["name"], manifest["artifact"]["outputs"][0]["name"]
    mode = "L" if manifest["preprocess"]["color_order"] == "GRAY" else "RGB"
    shares: list[float] = []
    feeds: dict[str, Any] = {}
    for golden in manifest["golden"]:
        inputs = {name: read_image(folder / golden["frame"], mode)}
        try:
            outputs, _ = model.predict(inputs)
        except Exception as error:  # coremltools raises its own kinds, and Exception itself
            raise Problem(f"{folder}: Core ML cannot run the model: {error}") from error
        stored = numpy.asarray(read_image(folder / golden["mask"], "L"))
        received = mask_of(outputs[output])
        if received.shape != stored.shape:
            raise Problem(f"{folder}: the mask is {received.shape}, expected {stored.shape}; export the bundle again")
        shares.append(float((received == stored).mean()))
        feeds = feeds or inputs
    if not shares:
        raise Problem(f"{folder}: no golden frames; export the bundle again")
    worst = min(range(len(shares)), key=shares.__getitem__)
    found = {"images": len(shares), "equal": shares.count(1.0), "agreement": sum(shares) / len(shares)}
    return feeds, {**found, "worst_agreement": shares[worst], "worst_image": worst}


def measure(
    subjects: Mapping[str, Run], schedule: Mapping[str, int], clock: Run = time.perf_counter_ns
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Time all subjects (label -> a function that returns nanoseconds) under one schedule, in bursts by turns.

    Returns (label -> {"warmup_runs", "samples_ns"}, labels in the order of the bursts).
    """
    results: dict[str, dict[str, Any]] = {}
    spent, order = dict.fromkeys(subjects, 0), []
    for label, run in subjects.items():
        start, count = clock(), 0
        while count < schedule["warmup_runs"] or clock() - start < schedule["warmup_ns"]:
            run()
            count += 1
        results[label] = {"warmup_runs": count, "samples_ns": []}
    active = list(subjects)
    while active:
        for label in active:
            samples = results[label]["samples_ns"]
            for number in range(schedule["discarded"] + min(schedule["burst"], schedule["runs"] - len(samples))):
                start = clock()
                took = subjects[label]()
                spent[label] += clock() - start
                if number >= schedule["discarded"]:
                    samples.append(took)
            order.append(label)
        active = [
            name for name in active
            if len(results[name]["samples_ns"]) < schedule["runs"] and spent[name] < schedule["limit_ns"]
        ]  # fmt: skip
    return results, order


def timed_run(model: Any, feeds: dict[str, Any]) -> Run:
    """One prediction; its nanoseconds."""
    return lambda: int(model.predict(feeds)[1])


def quantiles(samples: Sequence[int]) -> dict[str, int]:
    """Nearest rank: the smallest sample that at least that share of the samples do not exceed."""
    ordered = sorted(samples)
    return {f"p{q}": ordered[max(1, math.ceil(len(ordered) * q / 100)) - 1] for q in (50, 90, 99)}


def placement(plan: Any) -> list[dict[str, Any]]:
    """Each operation with the unit Core ML prefers for it and its share of the estimated cost."""
    if plan is None or plan.model_structure.program is None:
        return []
    units = {"MLCPUComputeDevice": "CPU", "MLGPUComputeDevice": "GPU", "MLNeuralEngineComputeDevice": "Neural Engine"}
    rows = []
    for operation in plan.model_structure.program.functions["main"].block.operations:
        op = operation.operator_name.rpartition(".")[2]
        usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
        if op in NO_LAYERS or op.startswith("constexpr") or usage is None:
            continue
        cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
        unit = type(usage.preferred_compute_device).__name__
        row = {"name": operation.outputs[0].name, "op": op, "unit": units.get(unit, unit)}
        rows.append({**row, "cost": None if cost is None else cost.weight})
    return rows


def said(*command: str) -> str | None:
    """What a program of the system prints; None where it is absent or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


def power() -> dict[str, Any]:
    """'charging' or 'battery', low power mode, and the CPU's speed limit in percent (100: not throttled)."""
    drawn, settings, thermal = said("pmset", "-g", "batt"), said("pmset", "-g"), said("pmset", "-g", "therm")
    low = [line.split()[-1] for line in (settings or "").splitlines() if "lowpowermode" in line]
    limit = [line.split("=")[-1].strip() for line in (thermal or "").splitlines() if "CPU_Speed_Limit" in line]
    return {
        "power": None if drawn is None else "charging" if "AC Power" in drawn else "battery",
        "low_power_mode": low[0] == "1" if low else None,
        "cpu_speed_limit": int(limit[0]) if limit and limit[0].isdigit() else None,
    }


def machine() -> dict[str, Any]:
    """This Mac. Nothing that names its owner."""
    memory, version = said("sysctl", "-n", "hw.memsize"), platform.mac_ver()[0]
    packages = {name: getattr(require(name), "__version__", "unknown") for name in ("coremltools", "numpy", "PIL")}
    return {
        "chip": said("sysctl", "-n", "machdep.cpu.brand_string"),
        "model": said("sysctl", "-n", "hw.model"),
        "os": f"macOS {version}" if version else platform.system(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "memory_bytes": int(memory) if memory else None,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": packages,
    }


def connect(name: str, team: str) -> Any:
    """The attached iPhone of that name ('' takes the only one), ready to run models."""
    require("coremltools")
    try:
        from coremltools.models.ml_program.experimental.remote_device import AppSigningCredentials, Device, DeviceType
    except ImportError as error:
        raise Problem(f"this coremltools has no remote devices ({error}): pip install -U coremltools", 5) from error
    phones = [d for d in Device.get_connected_devices(DeviceType.IPHONE) if name in ("", d.name)]
    if len(phones) != 1:
        raise Problem(
            f"--iphone: {len(phones)} iPhones fit {name!r}, expected one; see: xcrun devicectl list devices", 2
        )
    credentials = AppSigningCredentials(development_team=team)
    return asyncio.run(phones[0].prepare_for_model_debugging(credentials=credentials))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="bundle folders of target ios")
    parser.add_argument("--compute-units", choices=tuple(UNITS), default="all", help="what Core ML may use (all)")
    parser.add_argument("--rapid", action="store_true", help="64 runs or 6 s instead of 1024 runs or 60 s")
    parser.add_argument("--out", type=Path, default=Path("coreml.json"), help="where the result goes (coreml.json)")
    parser.add_argument(
        "--iphone", nargs="?", const="", metavar="NAME",
        help="experimental: run on the attached iPhone of this name (or the only one); see the head of this file",
    )  # fmt: skip
    parser.add_argument("--team", default="", help="Apple development team that signs the phone's model runner")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Everything; the result as a dictionary."""
    manifests = {folder: read_bundle(folder) for folder in options.bundles}
    phone = None if options.iphone is None else connect(options.iphone, options.team)
    models: dict[str, Any] = {}
    results: dict[str, dict[str, Any]] = {}
    subjects: dict[str, Run] = {}
    for folder, manifest in manifests.items():
        artifact = manifest["artifact"]
        label = f"{manifest['name']} ios {artifact['precision']}"
        if label in results:
            raise Problem(f"{folder}: a second bundle called {label}; give each once", 2)
        path = folder / artifact["path"]
        model = PhoneModel(path, options.compute_units, phone) if phone else LocalModel(path, options.compute_units)
        feeds, golden = check_golden(model, folder, manifest)
        models[label] = model
        subjects[label] = timed_run(model, feeds)
        results[label] = {
            "bundle": manifest["name"], "artifact_sha256": artifact["sha256"], "precision": artifact["precision"],
            "compute_units": options.compute_units, "golden": golden,
        }  # fmt: skip
        print(
            f"{label}: {golden['equal']} of {golden['images']} golden masks equal, {golden['agreement']:.3%} of pixels"
        )
    schedule = RAPID if options.rapid else FULL
    before = power()
    timed, order = measure(subjects, schedule)
    after = power()
    for label, result in results.items():
        result.update(timed[label], clock=models[label].clock, placement=placement(models[label].plan()))
        result["quantiles_ns"] = quantiles(result["samples_ns"])
        print(f"{label}: p50 {result['quantiles_ns']['p50'] / 1e6:.3f} ms, {len(result['samples_ns'])} runs")
    return {
        "format": FORMAT, "format_version": FORMAT_VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(), "before": before, "after": after,
        "iphone_os": None if phone is None else f"iOS {phone.os_version}",
        "schedule": schedule, "burst_order": order, "results": list(results.values()),
    }  # fmt: skip


def write(path: Path, result: dict[str, Any]) -> None:
    """The JSON, whole or not at all."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps(result, indent=1, sort_keys=True), encoding="utf-8")
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise Problem(f"cannot write {path}: {error.strerror}; choose another --out", 2) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit code."""
    options = parse(arguments)
    try:
        write(options.out, run(options))
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        return problem.code
    print(f"written: {options.out}; import it with: edge-unet bench BUNDLE --imported {options.out.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
