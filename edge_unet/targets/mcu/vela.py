"""Vela, Arm's compiler for Ethos-U: the compiled files, and what it estimates. Nothing here was measured.

Vela runs as a program: the one of this Python's environment, else `vela` on PATH. Each accelerator is estimated in one
of Vela's own system configurations (clock and memories), named with every figure; a real chip has others.
"""

from __future__ import annotations

import csv
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_unet.core.errors import ArtifactError, in_words
from edge_unet.core.files import canonical_json, sha256_of
from edge_unet.core.spec import Frozen
from edge_unet.targets.tflite.model_file import builtin_names
from edge_unet.targets.tflite.writer import schema

FOLDER = "ethos-u"
ESTIMATES = "estimates.json"
LABEL = "estimated by Vela, measured on nothing"
NPU = "ethos-u"
"""Name of the custom op that stands for everything the NPU executes."""
TIMEOUT_S = 600


class Accelerator(Frozen):
    """One Ethos-U and the system around it, in Vela's words."""

    name: str
    system_config: str
    memory_mode: str


ACCELERATORS = (
    Accelerator(name="ethos-u55-128", system_config="Ethos_U55_High_End_Embedded", memory_mode="Shared_Sram"),
    Accelerator(name="ethos-u65-256", system_config="Ethos_U65_High_End", memory_mode="Dedicated_Sram_384KB"),
    Accelerator(name="ethos-u85-256", system_config="Ethos_U85_SYS_DRAM_Mid", memory_mode="Dedicated_Sram_384KB"),
)


class CpuOp(Frozen):
    """An op that Vela leaves to the CPU."""

    name: str
    op: str


class Estimate(Frozen):
    """What Vela says of one accelerator. None: Vela does not say."""

    accelerator: str
    system_config: str
    memory_mode: str
    clock_mhz: float
    total_cycles: int
    npu_cycles: int
    inference_ms: float
    macs: int
    sram_bytes: int
    dram_bytes: int
    flash_bytes: int
    """On and off the chip together: where weights and constants lie."""
    npu_ops: int
    """Ops of model.tflite that the NPU executes."""
    cpu_ops: tuple[CpuOp, ...]
    path: str
    sha256: str
    bytes: int

    @property
    def npu_share(self) -> float:
        """Of the ops."""
        return self.npu_ops / (self.npu_ops + len(self.cpu_ops))

    def note(self) -> str:
        """One line for the artifact's notes."""
        kib = [f"{size / 1024:.0f} KiB {name}" for name, size in self.memories().items() if size]
        return (
            f"{self.accelerator} ({self.system_config}, {self.memory_mode}, {self.clock_mhz:.0f} MHz): "
            f"{self.inference_ms:.2f} ms, {self.total_cycles} cycles, {', '.join(kib)}, "
            f"{100 * self.npu_share:.0f} % of {self.npu_ops + len(self.cpu_ops)} ops on the NPU: {LABEL}"
        )

    def memories(self) -> Mapping[str, int]:
        """Bytes by kind."""
        return {"SRAM": self.sram_bytes, "DRAM": self.dram_bytes, "flash": self.flash_bytes}


class Estimates(Frozen):
    """ethos-u/estimates.json."""

    schema_version: int = 1
    label: str = LABEL
    vela: str
    """Its version."""
    rows: tuple[Estimate, ...]


def command() -> list[str] | None:
    """How to start Vela here, None where it is not installed."""
    if importlib.util.find_spec("ethosu") is not None and importlib.util.find_spec("ethosu.vela") is not None:
        return [sys.executable, "-m", "ethosu.vela"]
    found = shutil.which("vela")
    return [found] if found else None


def compile_all(model: Path, into: Path) -> Estimates | None:
    """Compile `model` for every accelerator into the folder `into`, with estimates.json; None where Vela is missing.

    Raises ArtifactError with Vela's own words where it fails.
    """
    vela = command()
    if vela is None:
        return None
    into.mkdir()
    rows = tuple(_compile(vela, model, accelerator, into) for accelerator in ACCELERATORS)
    estimates = Estimates(vela=_run([*vela, "--version"], "its version").strip(), rows=rows)
    (into / ESTIMATES).write_text(canonical_json(estimates.model_dump(mode="json")), encoding="utf-8")
    return estimates


def read_estimates(folder: Path) -> Estimates | None:
    """The estimates of an artifact's folder, None where it was lowered without Vela. Raises ArtifactError on a damaged
    file."""
    from pydantic import ValidationError

    path = folder / FOLDER / ESTIMATES
    if not path.is_file():
        return None
    try:
        return Estimates.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else str(error)
        raise ArtifactError(f"{path}: damaged ({reason}); export the bundle again") from error


def _compile(vela: list[str], model: Path, accelerator: Accelerator, into: Path) -> Estimate:
    with tempfile.TemporaryDirectory() as room:
        options = {
            "--accelerator-config": accelerator.name,
            "--config": "Arm/vela.ini",
            "--system-config": accelerator.system_config,
            "--memory-mode": accelerator.memory_mode,
            "--output-dir": room,
        }
        arguments = [word for pair in options.items() for word in pair]
        _run([*vela, str(model), *arguments], accelerator.name)
        (summary,) = Path(room).glob(f"{model.stem}_summary_*.csv")
        with summary.open(encoding="utf-8", newline="") as stream:
            (numbers,) = csv.DictReader(stream)
        compiled = into / f"{accelerator.name}.tflite"
        shutil.copyfile(Path(room) / f"{model.stem}_vela.tflite", compiled)
    return _estimate(accelerator, numbers, model.read_bytes(), compiled)


def _estimate(accelerator: Accelerator, numbers: Mapping[str, str], model: bytes, compiled: Path) -> Estimate:
    cpu_ops = on_cpu(compiled.read_bytes())

    def size(*memories: str) -> int:
        """Vela writes KiB."""
        return round(sum(float(numbers[f"{memory}_memory_used"]) for memory in memories) * 1024)

    return Estimate(
        accelerator=accelerator.name,
        system_config=accelerator.system_config,
        memory_mode=accelerator.memory_mode,
        clock_mhz=float(numbers["core_clock"]) / 1e6,
        total_cycles=round(float(numbers["cycles_total"])),
        npu_cycles=round(float(numbers["cycles_npu"])),
        inference_ms=1000 * float(numbers["inference_time"]),
        macs=round(float(numbers["nn_macs"])),
        sram_bytes=size("sram"),
        dram_bytes=size("dram"),
        flash_bytes=size("on_chip_flash", "off_chip_flash"),
        npu_ops=len(_parse(model).subgraphs[0].operators) - len(cpu_ops),
        cpu_ops=cpu_ops,
        path=f"{FOLDER}/{compiled.name}",
        sha256=sha256_of(compiled),
        bytes=compiled.stat().st_size,
    )


def on_cpu(compiled: bytes) -> tuple[CpuOp, ...]:
    """The ops of a compiled file that are left beside the NPU's custom op."""
    model = _parse(compiled)
    graph, left = model.subgraphs[0], []
    for operator in graph.operators:
        kind = model.operatorCodes[operator.opcodeIndex]
        if kind.customCode is not None and kind.customCode.decode() == NPU:
            continue
        name = graph.tensors[int(operator.outputs[0])].name.decode()
        left.append(CpuOp(name=name, op=builtin_names()[max(kind.builtinCode, kind.deprecatedBuiltinCode)]))
    return tuple(left)


def _parse(data: bytes) -> Any:
    return schema().ModelT.InitFromPackedBuf(data, 0)


def _run(arguments: list[str], what: str) -> str:
    """Standard output of a program. Raises ArtifactError with the last line it wrote where it fails."""
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ArtifactError(f"vela did not run ({error}); check it with: vela --version") from error
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()] or ["no output"]
        raise ArtifactError(f"vela failed for {what} (exit {done.returncode}): {said[-1]}")
    return done.stdout
