"""LiteRT's own profile: the kernels inside the XNNPACK delegate, in whole microseconds.

The Python package shows no profiler, the C library in the same wheel does. It is run in a child process; where that
fails, the artifact is timed as a whole and `source` says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_unet.canonical import CanonicalGraph
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import UsageError, require
from edge_unet.core.limits import LayerTime
from edge_unet.core.spec import Tensors
from edge_unet.measure.profilers.profile import WARM, Names, Profile, layer_time
from edge_unet.targets.feeds import check_feeds
from edge_unet.targets.tflite.interpreter import partitions, runtime_name, start
from edge_unet.targets.tflite.model_file import ModelFile, read_model

KERNELS = {
    "ADD": ("Add",),
    "AVERAGE_POOL_2D": ("Average Pooling", "Global Average"),
    "BATCH_MATMUL": ("Batch Matrix Multiply",),
    "CONCATENATION": ("Copy", "Concatenate"),
    "CONV_2D": ("Convolution", "Fully Connected"),
    "DEPTHWISE_CONV_2D": ("Convolution",),
    "DEQUANTIZE": ("Convert",),
    "FULLY_CONNECTED": ("Fully Connected",),
    "LOGISTIC": ("Sigmoid",),
    "MAXIMUM": ("Maximum",),
    "MAX_POOL_2D": ("Max Pooling",),
    "MEAN": ("Mean", "Global Average"),
    "MINIMUM": ("Minimum",),
    "MUL": ("Multiply",),
    "PAD": ("Constant Pad",),
    "QUANTIZE": ("Convert",),
    "RESHAPE": ("Static Reshape", "Reshape", "Copy"),
    "RESIZE_BILINEAR": ("Resize Bilinear",),
    "SOFTMAX": ("Softmax",),
    "SUB": ("Subtract",),
    "TRANSPOSE": ("Transpose",),
    "TRANSPOSE_CONV": ("Deconvolution",),
}
"""Op of the file -> how XNNPACK's names of the kernels that compute it begin."""

ABSORBED = frozenset({"MAXIMUM", "MINIMUM", "PAD"})
"""Ops that the delegate may make a part of a neighbouring kernel."""

TIMEOUT_S = 300


class Event(NamedTuple):
    """One kernel of one run: its name, its number in the delegate, microseconds of every run."""

    kernel: str
    number: int
    times_us: list[int]


def profile(
    folder: Path, artifact: Artifact, feeds: Tensors, runs: int, *, graph: CanonicalGraph, threads: int, bf16: bool
) -> Profile:
    """Median of each kernel over `runs` runs. Raises UsageError for bf16, which LiteRT lacks on the CPU."""
    if bf16:
        raise UsageError(f"{artifact.path}: LiteRT has no bfloat16 on the CPU; profile without bf16")
    check_feeds(feeds, artifact)
    file = read_model(folder, artifact)
    events, trouble = run_child(folder / artifact.path, [feeds[name] for name in file.inputs], runs + WARM, threads)
    if not events:
        source = f"LiteRT as a whole, no layers: {trouble}"
        return Profile(source, runtime_name("xnnpack"), runs, (_whole(file, feeds, runs, threads),))
    source = "LiteRT profile, kernels of the XNNPACK delegate"
    pieces = partitions(start(file.data, "xnnpack", threads=threads))
    operators = aligned(file, events) if pieces == 1 else None
    if operators is None:
        source += f" under the delegate's names: they do not match the file's ops one to one ({pieces} partitions)"
    names = Names(graph)
    layers = []
    for place, event in enumerate(events):
        times = [1000.0 * took for took in event.times_us[WARM:]]
        named = None if operators is None else names.node([operators[place]], alone=event.kernel.startswith("Convert"))
        layers.append(
            layer_time(f"{event.kernel} #{place}", event.kernel.partition(" (")[0], event.kernel, named, times)
        )
    return Profile(source, runtime_name("xnnpack"), runs, tuple(layers))


def run_child(model: Path, feeds: Sequence[object], runs: int, threads: int) -> tuple[list[Event], str]:
    """The events, or none and the reason."""
    package = require("ai_edge_litert", "tflite")
    library = Path(str(package.__file__)).parent / "libLiteRt.so"
    if not library.is_file():
        return [], f"{library.name} is not in the installed ai-edge-litert"
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        files = [Path(room) / f"{place}.npy" for place in range(len(feeds))]
        for file, array in zip(files, feeds, strict=True):
            np.save(file, np.asarray(array))
        command = [
            sys.executable, "-m", "edge_unet.measure.profilers.litert_program", str(library), str(model),
            *map(str, files), str(runs), str(threads),
        ]  # fmt: skip
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, check=False, timeout=TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return [], f"its profiler gave no answer in {TIMEOUT_S} s"
    answers = [line for line in done.stdout.splitlines() if line.startswith("[[")]
    if done.returncode != 0 or not answers:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return [], f"its profiler ended with status {done.returncode} ({last})"
    return [Event(*row) for row in json.loads(answers[-1])], ""


def aligned(file: ModelFile, events: Sequence[Event]) -> list[str] | None:
    """Tensor that each kernel makes, by the file: ops and kernels are in one order, and every kernel must be of its
    op's kind. None where they do not fit one to one."""
    made: list[str] = []
    for operator in file.operators:
        code = file.code(operator)
        kernel = events[len(made)].kernel if len(made) < len(events) else ""
        if kernel.startswith(KERNELS.get(code, (code,))):
            made.append(file.tensors[int(operator.outputs[0])].name.decode())
        elif code not in ABSORBED:
            return None
    return made if len(made) == len(events) else None


def _whole(file: ModelFile, feeds: Tensors, runs: int, threads: int) -> LayerTime:
    """The artifact as one layer."""
    interpreter = start(file.data, "xnnpack", threads=threads)
    for name, index in file.inputs.items():
        interpreter.set_tensor(index, feeds[name])
    times = []
    for _ in range(WARM + runs):
        begin = time.perf_counter_ns()
        interpreter.invoke()
        times.append(float(time.perf_counter_ns() - begin))
    unit = f"{partitions(interpreter)} delegate partitions, {len(file.operators)} ops"
    return layer_time("whole model", "DELEGATE", unit, None, times[WARM:])
