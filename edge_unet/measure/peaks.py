"""What this machine reaches at best: multiply-accumulates a second by precision, and bytes a second.

Rates are those of dense convolutions in OpenVINO, the best of a short sweep: a register loop reaches more, but no
network runs as one. Maxima, because everything that disturbs a measurement makes it slower.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from edge_unet.core.errors import EdgeUnetError, MissingBackendError, UsageError, require
from edge_unet.core.files import canonical_json, write_text
from edge_unet.core.limits import Peaks
from edge_unet.core.spec import Precision
from edge_unet.measure.environment import installed, read_environment
from edge_unet.targets.islands import Islands
from edge_unet.targets.openvino.census import executed_layers
from edge_unet.targets.openvino.runtime import has_bf16

SMALL_BYTES, LARGE_BYTES = 1 << 20, 64 << 20
"""Working sets of the two bandwidths, what is read and what is written together."""

DEPTH = 6
"""Convolutions in a row."""
THIN = 4
"""Channels in front of them."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A convolution of as many output channels as input channels, over a square."""

    channels: int
    size: int
    kernel: int

    @property
    def macs(self) -> int:
        """Of one convolution."""
        return (self.channels * self.kernel * self.size) ** 2


SWEEP = (Shape(128, 64, 3), Shape(64, 64, 3), Shape(512, 16, 3), Shape(256, 32, 3), Shape(256, 32, 1))
"""Which of these is fastest depends on the machine and the precision: 128 at 64² with AMX, 512 at 16² or 64 at 64² with
AVX512-VNNI."""

RAPID_SWEEP = SWEEP[:3]


def measure_peaks(threads: int = 1, *, rapid: bool = False) -> Peaks:
    """Measure with `threads` threads, in at most 10 s (`rapid`: about 3 s).

    Without OpenVINO the FP32 rate is that of numpy's matrix product and the others are None; `method` says which.
    """
    shapes, seconds = (RAPID_SWEEP, 0.12) if rapid else (SWEEP, 0.25)
    when = datetime.now(timezone.utc).isoformat(timespec="seconds")
    try:
        version = require("openvino", "openvino").__version__.split("-")[0]
    except MissingBackendError:
        rates: dict[Precision, float | None] = {Precision.FP32: _matmul_rate(threads, 3 * seconds)}
        method = "FP32: numpy's matrix product 512x512 (OpenVINO is not installed: no INT8 and bf16 peaks)"
    else:
        precisions = (Precision.INT8, Precision.FP32, *((Precision.BF16,) if has_bf16() else ()))
        rates = {precision: _best_rate(precision, shapes, threads, seconds) for precision in precisions}
        method = f"MACs: best of {len(shapes)} dense convolutions in OpenVINO {version}"
    return Peaks(
        threads=threads,
        int8_macs_per_s=rates.get(Precision.INT8),
        bf16_macs_per_s=rates.get(Precision.BF16),
        fp32_macs_per_s=rates.get(Precision.FP32),
        small_bytes_per_s=_bandwidth(SMALL_BYTES, threads, seconds),
        large_bytes_per_s=_bandwidth(LARGE_BYTES, threads, seconds),
        method=f"{method}; bytes: numpy copies of 1 and 64 MB; {threads} thread(s), measured {when}",
    )


def machine_peaks(threads: int = 1, *, cached: bool = False, rapid: bool = False) -> Peaks:
    """The peaks of this machine. Measured anew unless `cached` allows those of an earlier full measurement by the same
    CPU and OpenVINO; `method` always says when they were measured. A full measurement is kept for later."""
    path = cache_path(threads)
    if cached and (found := _read(path)) is not None:
        return found.model_copy(update={"method": f"{found.method}, read from the cache"})
    peaks = measure_peaks(threads, rapid=rapid)
    if not rapid:
        with suppress(UsageError):  # a home that cannot be written costs the next call ten seconds, no more
            write_text(path, canonical_json(peaks.model_dump(mode="json")))
    return peaks


def cache_path(threads: int) -> Path:
    """Where the peaks of this machine, these versions and so many threads are kept."""
    parts = [
        read_environment().cpu_model or platform.processor(),
        _flags(),
        str(threads),
        installed(("openvino",)).get("openvino", "no openvino"),
    ]
    key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "edge-unet" / f"peaks-{key}.json"


def _read(path: Path) -> Peaks | None:
    """What is kept there; None for nothing, or for a file that is damaged."""
    try:
        return Peaks.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def _flags() -> str:
    """What the CPU says it can do; '' where the kernel does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return " ".join(sorted(next(found, "").split()))


def _best_rate(precision: Precision, shapes: Sequence[Shape], threads: int, seconds: float) -> float | None:
    """Best MACs per second over the sweep; None where the plugin computes none of it in `precision`."""
    rates = [conv_rate(shape, precision, threads=threads, seconds=seconds) for shape in shapes]
    return max((rate for rate in rates if rate is not None), default=None)


def conv_rate(shape: Shape, precision: Precision, *, threads: int = 1, seconds: float = 0.25) -> float | None:
    """MACs per second of the fastest run of DEPTH convolutions; None where the plugin computes them in another
    precision. Not by the plugin's own counters: those are means over all runs."""
    ov = require("openvino", "openvino")
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision is Precision.BF16 else "f32",
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    try:
        compiled = ov.Core().compile_model(_convolutions(shape, precision), "CPU", options)
    except RuntimeError:
        return None
    layers = executed_layers(compiled, {}, Islands({}))
    if sum(layer.op == "Conv" and layer.precision == precision.value for layer in layers) < DEPTH:
        return None
    request = compiled.create_infer_request()
    frame = np.random.default_rng(0).uniform(0, 1, (1, THIN, shape.size, shape.size)).astype(np.float32)
    request.set_input_tensor(ov.Tensor(frame))
    return DEPTH * shape.macs / _fastest(request.infer, seconds, threads)


def _convolutions(shape: Shape, precision: Precision) -> Any:
    """DEPTH convolutions with ReLU between two thin ones, so that entering and leaving the plugin costs little. INT8:
    int8 weights behind a scale, u8 tensors between them."""
    ov, ops = require("openvino", "openvino"), require("openvino.opset13", "openvino")
    rng = np.random.default_rng(0)
    quantized = precision is Precision.INT8

    def rounded(x: Any) -> Any:
        low, high = np.float32(0), np.float32(255 / 64)
        return ops.fake_quantize(x, low, high, low, high, 256) if quantized else x

    def conv(x: Any, codes: NDArray[np.int8]) -> Any:
        _, inputs, _, kernel = codes.shape
        scale = np.float32(1 / (127 * np.sqrt(inputs) * kernel))
        integers = ops.multiply(ops.convert(ops.constant(codes), "f32"), ops.constant(scale)) if quantized else None
        weight = integers or ops.constant(codes.astype(np.float32) * scale)
        border = [kernel // 2] * 2
        return ops.convolution(x, weight, [1, 1], border, border, [1, 1])

    def weights(*extent: int) -> NDArray[np.int8]:
        return rng.integers(-127, 128, extent, dtype=np.int8)

    source = ops.parameter([1, THIN, shape.size, shape.size], np.float32)
    x = rounded(ops.relu(conv(rounded(source), weights(shape.channels, THIN, 1, 1))))
    codes = weights(shape.channels, shape.channels, shape.kernel, shape.kernel)
    for _ in range(DEPTH):
        x = rounded(ops.relu(conv(x, codes)))
    return ov.Model([ops.result(conv(x, weights(1, shape.channels, 1, 1)))], [source], "peak")


def _bandwidth(working_set: int, threads: int, seconds: float) -> float:
    """Bytes read and written per second, every thread copying a part of the working set of its own."""
    part = working_set // 2 // threads
    pairs = [(np.ones(part, np.uint8), np.zeros(part, np.uint8)) for _ in range(threads)]
    copies = max(1, LARGE_BYTES // working_set)

    def copy(pair: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
        for _ in range(copies):
            np.copyto(pair[1], pair[0])

    moved = 2 * part * threads * copies
    if threads == 1:
        return moved / _fastest(lambda: copy(pairs[0]), seconds, threads)
    with ThreadPoolExecutor(threads) as pool:
        return moved / _fastest(lambda: list(pool.map(copy, pairs)), seconds, threads)


def _fastest(run: Callable[[], object], seconds: float, threads: int) -> float:
    """Seconds of the fastest of many runs. One thread by its own CPU time: what else the machine does then interrupts
    it, but is not counted."""
    clock = time.process_time if threads == 1 else time.perf_counter
    best = float("inf")
    deadline = time.perf_counter() + seconds
    run()
    while time.perf_counter() < deadline or best == float("inf"):
        start = clock()
        run()
        best = min(best, clock() - start)
    return best


_MATMUL = """
import sys, time
import numpy as np
clock = time.process_time if sys.argv[2] == "1" else time.perf_counter
a = np.ones((512, 512), np.float32)
out = np.empty_like(a)
best, deadline = float("inf"), time.perf_counter() + float(sys.argv[1])
while time.perf_counter() < deadline or best == float("inf"):
    start = clock()
    np.matmul(a, a, out=out)
    best = min(best, clock() - start)
print(512**3 / best)
"""


def _matmul_rate(threads: int, seconds: float) -> float:
    """MACs per second of numpy's matrix product, in a process of its own: BLAS reads its threads when it is loaded."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads))}
    command = [sys.executable, "-c", _MATMUL, str(seconds), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise EdgeUnetError(f"the process that measures numpy's matrix product failed: {last}; try it: import numpy")
    return float(done.stdout.splitlines()[-1])
