# ruff: noqa: TID252 - the folder is packed for devices, see __init__
"""TensorRT: the kit that lies in a jetson bundle builds its engines here, runs them and says what it found.

Every engine that was built is a subject: INT8 beside FP16.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from .errors import DISAGREES, FAILED, MISSING, RunnerError
from .job import Subject
from .sessions import Opened

PROGRAMS = "edge_unet_kit"
PRECISIONS = ("int8", "fp16")


def build(subject: Subject, say: Callable[[str], None]) -> None:
    """Run the kit's build.py, whose lines are passed on. Raises RunnerError with its last line where it fails."""
    line = [sys.executable, "-B", str(subject.artifact / "build.py"), "--rapid", "--golden", str(subject.pictures)]
    for precision in PRECISIONS:
        gate = subject.gates.get(precision)
        if gate is not None:
            line += [f"--min-agreement-{precision}", str(gate)]
    process = subprocess.Popen(
        line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    last = ""
    assert process.stdout is not None
    for printed in process.stdout:
        last = printed.strip() or last
        say(f"{subject.label}: {printed.rstrip()}")
    code = process.wait()
    if code:
        known = code if code in (DISAGREES, MISSING) else FAILED
        raise RunnerError(f"{subject.label}: build.py ended with {code}: {last}", known)


def open_engines(stack: ExitStack, subject: Subject) -> list[Opened]:
    """Every engine that lies beside the kit. They are closed with the stack."""
    kit = _programs(subject)
    found = []
    try:
        spec, cuda = kit("spec").load_kit(subject.artifact), kit("cuda").Cuda()
        machine = kit("device").this_machine(cuda)
        folder = kit("sidecar").engines_folder(subject.artifact)
        graphs = {graph.sha256 for graph in spec.graphs.values()}
        for precision in PRECISIONS:
            engine = folder / f"model.{precision}.engine"
            if engine.is_file():
                facts = kit("sidecar").check_sidecar(engine, machine, graphs)
                runner = stack.enter_context(kit("run_engine").Runner(engine, spec, cuda))
                found.append(_opened(subject, precision, facts, runner))
    except kit("spec").KitError as error:
        raise RunnerError(f"{subject.label}: {error}", error.exit_code) from error
    if not found:
        raise RunnerError(f"{subject.label}: build.py left no engine in {folder.name}")
    return found


def _opened(subject: Subject, precision: str, facts: dict[str, Any], runner: Any) -> Opened:
    runner.infer(np.load(str(subject.golden[0].feed)))  # the frame that is timed stays in the pinned buffer

    def run() -> Sequence[int]:
        sample = runner.run()
        return sample.h2d_ns, sample.compute_ns, sample.d2h_ns

    golden = facts.get("golden")
    return Opened(
        subject=subject,
        precision=precision,
        runtime=f"tensorrt {facts['machine']['tensorrt']}, {precision} engine",
        infer=None,
        run=run,
        stages=("h2d", "compute", "d2h"),
        golden=[golden["ratio"]] if golden else [],
        layers=facts["layers"],
    )


def _programs(subject: Subject) -> Callable[[str], Any]:
    """Import a module of the kit's own programs. Each kit gets a package name of its own."""
    folder = subject.artifact / PROGRAMS
    name = f"{PROGRAMS}_{subject.artifact.name}"
    if name not in sys.modules:
        place = importlib.util.spec_from_file_location(
            name, str(folder / "__init__.py"), submodule_search_locations=[str(folder)]
        )
        if place is None or place.loader is None or not folder.is_dir():
            raise RunnerError(f"{subject.label}: the kit holds no {PROGRAMS}; export the bundle again")
        package = importlib.util.module_from_spec(place)
        sys.modules[name] = package
        place.loader.exec_module(package)
    return lambda module: importlib.import_module(f"{name}.{module}")
