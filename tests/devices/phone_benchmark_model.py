"""A stand-in for Android's benchmark_model: LiteRT's interpreter of this machine behind that program's options and in
its words. Its times are real ones, of this machine and not of a phone.

    python phone_benchmark_model.py --graph=model.tflite --num_runs=50 …
"""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

Flags = dict[str, str]
FAULTS = ("", "negated", "no_output")
"""Logits of the wrong sign; a version that has no --output_filepath."""


def loop(interpreter: Any, flags: Flags, runs: int, seconds: float) -> list[int]:
    """Microseconds of each run; says what the original says."""
    limit = float(flags.get("max_secs", 150))
    print(f"INFO: Running benchmark for at least {runs} iterations and at least {seconds:g} seconds but terminate if "
          f"exceeding {limit:g} seconds.")  # fmt: skip
    start, taken = time.monotonic(), []
    while (len(taken) < runs or time.monotonic() - start < seconds) and time.monotonic() - start <= limit:
        begin = time.perf_counter_ns()
        interpreter.invoke()
        taken.append(round((time.perf_counter_ns() - begin) / 1000))
    print(f"INFO: {summary(taken)}\n")
    return taken


def summary(taken: list[int]) -> str:
    """The `count=` line."""
    if not taken:
        return "count=0"
    if min(taken) == max(taken):
        return f"count={len(taken)} curr={taken[-1]}" + ("(all same)" if len(taken) > 1 else "")
    ordered = sorted(taken)
    at = [ordered[min(len(ordered) - 1, len(ordered) * q // 100)] for q in (5, 50, 95)]
    return (
        f"count={len(taken)} first={taken[0]} curr={taken[-1]} min={min(taken)} max={max(taken)} "
        f"avg={statistics.mean(taken):g} std={statistics.pstdev(taken):.0f} p5={at[0]} median={at[1]} p95={at[2]}"
    )


def delegate_line(interpreter: Any) -> str:
    """Whether XNNPACK took all of the graph."""
    from edge_unet.targets.tflite.interpreter import delegated, partitions

    outputs = {int(i) for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE" for i in op["outputs"]}
    pieces = partitions(interpreter)
    said = "INFO: Explicitly applied XNNPACK delegate, and the model graph will be "
    if pieces == 1 and outputs <= delegated(interpreter):
        return said + "completely executed by the delegate."
    return said + f"partially executed by the delegate w/ {pieces} delegate kernels."


def main(arguments: list[str]) -> int:
    """One call."""
    flags: Flags = dict(argument.removeprefix("--").split("=", 1) for argument in arguments)  # type: ignore[misc]
    print("INFO: STARTING!")
    if not Path(flags["graph"]).is_file():
        print(f"ERROR: Failed to load model {flags['graph']}\nERROR: Benchmarking failed.", file=sys.stderr)
        return 1
    begin = time.perf_counter_ns()
    interpreter = Interpreter(model_path=flags["graph"], num_threads=int(flags.get("num_threads", "-1")))
    interpreter.allocate_tensors()
    init = (time.perf_counter_ns() - begin) // 1000
    print(delegate_line(interpreter), flush=True)
    source, sink = interpreter.get_input_details()[0], interpreter.get_output_details()
    frame = np.zeros(source["shape"], source["dtype"])
    if files := flags.get("input_layer_value_files"):
        frame = np.fromfile(files.partition(":")[2], source["dtype"]).reshape(source["shape"])
    interpreter.set_tensor(source["index"], frame)
    warm = loop(interpreter, flags, int(flags.get("warmup_runs", 1)), float(flags.get("warmup_min_secs", 0.5)))
    taken = loop(interpreter, flags, int(flags.get("num_runs", 50)), float(flags.get("min_secs", 1)))
    print(f"INFO: Inference timings in us: Init: {init}, First inference: {warm[0]}, "
          f"Warmup (avg): {statistics.mean(warm):g}, Inference (avg): {statistics.mean(taken):g}")  # fmt: skip
    if flags.get("report_peak_memory_footprint") == "true":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"INFO: Overall peak memory footprint (MB) via periodic monitoring: {peak:g}")
    fault = os.environ.get("STAND_IN_FAULT", "")
    if fault == "no_output":
        print("WARN: Unconsumed cmdline flags: --output_filepath")
    elif path := flags.get("output_filepath"):
        logits = [interpreter.get_tensor(output["index"]) for output in sink]
        Path(path).write_bytes(
            b"".join((~v if v.dtype == np.int8 else -v).tobytes() if fault else v.tobytes() for v in logits)
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
