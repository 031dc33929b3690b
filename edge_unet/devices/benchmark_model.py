"""LiteRT's `benchmark_model`: its arguments, and its output as values.

The program is C++ and in no package; the user brings the Android binary. Three of its family are understood:
benchmark_model of the Interpreter API (`count=50 first=… avg=…` lines; it can also be fed a frame and write the
logits it gives), benchmark_model of the CompiledModel API (the same lines, no logits), and the wheel's
litert-benchmark (`Inference (avg): 1.23 ms (50 runs)`).

None of them writes the time of a single run: a call gives count, first, minimum, maximum, mean, standard deviation,
and in newer versions the 5th, 50th and 95th percentile. So one call is one sample, its mean, and a benchmark is many
calls by turns; whoever uses such samples has to say so (`per_sample`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_unet.core.limits import LayerTime
from edge_unet.devices.device import DeviceError

WHERE = (
    "download LiteRT's Android binary, "
    "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest/"
    "android_aarch64_benchmark_model, or build it: bazel build -c opt --config=android_arm64 "
    "//tensorflow/lite/tools/benchmark:benchmark_model"
)
"""Where the user gets it. Of the Interpreter API: the newer one of the CompiledModel API cannot write its logits."""
FEWEST_RUNS = 50
"""Runs a call takes its mean over, at least: a mean of fewer would pass for a latency of single runs."""
_LINE = re.compile(r"\bcount=(\d+)\b(.*)")
_PAIR = re.compile(r"\b(first|curr|min|max|avg|std|p5|median|p95)=([-+.\deE]+)")
_INIT = re.compile(r"Inference timings in us: Init: ([\d.e+]+), First inference: ([\d.e+]+)")
_PEAK = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: ([\d.e+]+)")
_DELEGATE = re.compile(r"Explicitly applied (\w+) delegate, and the model graph will be (completely|partially)")
_PARTITIONS = re.compile(r"w/ (\d+) delegate kernels")
_WHEEL = re.compile(r"(Model initialization|(?:Warmup|Inference) \(\w+\)):\s+([\d.]+) ms(?: \((\d+) runs\))?")
_RUN_ORDER = re.compile(r"=+ Run Order =+")
_OPERATORS = "Operator-wise Profiling Info for Regular Benchmark Runs"
_INSIDE = "Delegate internal"


@dataclass(frozen=True, slots=True)
class Statistic:
    """What one call says of its runs, in nanoseconds. None: this version of the program does not say it."""

    count: int
    avg_ns: int
    min_ns: int
    max_ns: int
    std_ns: int | None = None
    median_ns: int | None = None
    p95_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One call. None: not printed."""

    inference: Statistic
    warmup: Statistic | None = None
    init_ns: int | None = None
    first_ns: int | None = None
    """The first inference after loading."""
    peak_rss_bytes: int | None = None
    delegate: str | None = None
    """Which delegate took the graph: 'XNNPACK'."""
    partitions: int | None = None
    """Into how many pieces; 1 is a graph that the delegate runs as a whole."""
    operators: tuple[LayerTime, ...] = ()


@dataclass(frozen=True, slots=True)
class Feed:
    """A file with the bytes of the only input, its shape, and where the bytes of all outputs go."""

    shape: tuple[int, ...]
    frame: str
    logits: str


def arguments(
    program: str,
    graph: str,
    *,
    threads: int,
    runs: int,
    warmup_runs: int = 1,
    warmup_s: float = 0.0,
    limit_s: float = 600.0,
    memory: bool = False,
    profile: bool = False,
    feed: Feed | None = None,
) -> list[str]:
    """The command line. Exactly `runs` runs count, fewer where `limit_s` is up. `memory` and `profile` cost time:
    neither belongs into a call whose latency counts."""
    line = [
        program,
        f"--graph={graph}",
        f"--num_threads={threads}",
        f"--warmup_runs={warmup_runs}",
        f"--warmup_min_secs={warmup_s:g}",
        f"--num_runs={runs}",
        "--min_secs=0",
        f"--max_secs={limit_s:g}",
        "--use_xnnpack=true",
    ]
    if memory:
        line += ["--report_peak_memory_footprint=true"]
    if profile:
        line += ["--enable_op_profiling=true"]
    if feed is not None:  # the name is ours: the program goes by the order of the inputs
        shape = ",".join(map(str, feed.shape))
        line += ["--input_layer=image", f"--input_layer_shape={shape}"]
        line += [f"--input_layer_value_files=image:{feed.frame}", f"--output_filepath={feed.logits}"]
    return line


def parse(text: str) -> Output:
    """Read what a call printed. Raises DeviceError with the program's own last words where it has no timings."""
    statistics = list(_statistics(text)) or list(_wheel_statistics(text))
    if not statistics or statistics[-1] is None:
        words = [line.strip() for line in text.splitlines() if line.strip()]
        bad = [line for line in words if line.startswith(("ERROR", "FATAL")) and "Benchmarking failed" not in line]
        said = (bad or words or ["it printed nothing"])[-1]
        raise DeviceError(f"benchmark_model gave no timings; it said: {said[:200]}")
    timings, peak = _INIT.search(text), _PEAK.search(text)
    took = _DELEGATE.search(text)
    pieces = _PARTITIONS.search(text)
    whole = took is not None and took.group(2) == "completely"
    return Output(
        inference=statistics[-1],
        warmup=statistics[-2] if len(statistics) > 1 else None,
        init_ns=_ns(timings.group(1)) if timings else None,
        first_ns=_ns(timings.group(2)) if timings else None,
        peak_rss_bytes=round(float(peak.group(1)) * 2**20) if peak else None,
        delegate=took.group(1) if took else None,
        partitions=1 if whole else int(pieces.group(1)) if pieces else None,
        operators=_operators(text),
    )


def per_sample(runs: int) -> str:
    """What a sample is, for the runtime's name and for a note."""
    return f"each sample the mean of {runs} runs"


def _statistics(text: str) -> Iterator[Statistic | None]:
    """One for each `count=` line of the timing loop, in order: warm-up, runs. None where no run took place."""
    timing = text.partition("Profiling Info for")[0]  # the profiler prints `count=` lines too
    for found in _LINE.finditer(timing):
        values: dict[str, str] = dict(_PAIR.findall(found.group(2)))
        count = int(found.group(1))
        if not count or "curr" not in values:
            yield None
            continue
        same = values["curr"]  # 'count=3 curr=120(all same)': no other number follows
        yield Statistic(
            count=count,
            avg_ns=_ns(values.get("avg", same)),
            min_ns=_ns(values.get("min", same)),
            max_ns=_ns(values.get("max", same)),
            std_ns=_ns(values.get("std", "0")),
            median_ns=_ns(values["median"]) if "median" in values else None,
            p95_ns=_ns(values["p95"]) if "p95" in values else None,
        )


def _wheel_statistics(text: str) -> Iterator[Statistic]:
    """litert-benchmark prints milliseconds with two decimals."""
    values = {name: (round(float(ms) * 1e6), runs) for name, ms, runs in _WHEEL.findall(text)}
    if "Inference (avg)" not in values:
        return
    average, runs = values["Inference (avg)"]

    def read(name: str) -> int | None:
        return values[f"Inference ({name})"][0] if f"Inference ({name})" in values else None

    low, high = read("min"), read("max")
    yield Statistic(
        count=int(runs), avg_ns=average,
        min_ns=average if low is None else low, max_ns=average if high is None else high,
        std_ns=read("std"), median_ns=read("median"), p95_ns=read("p95"),
    )  # fmt: skip


def _operators(text: str) -> tuple[LayerTime, ...]:
    """The rows of the operators' table in the order of execution: inside the delegate where there is one, since
    outside it is a single row."""
    regular = text.partition(_OPERATORS)[2]
    inside = regular.partition(_INSIDE)[2]
    return tuple(_rows(inside, "XNNPACK")) or tuple(_rows(regular, "built-in kernel"))


def _rows(text: str, unit: str) -> Iterator[LayerTime]:
    """Tab-separated columns under '[node type] … [avg ms] … [Name]' after the first 'Run Order'."""
    found = _RUN_ORDER.search(text)
    lines = text[found.end() :].splitlines()[1:] if found else []
    if not lines:
        return
    columns = [column.strip().strip("[]").lower() for column in lines[0].split("\t")]
    if not {"node type", "avg ms", "name"} <= set(columns):
        return
    for line in lines[1:]:
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != len(columns):
            return
        row = dict(zip(columns, cells, strict=True))
        name = row["name"].rpartition("]:")[0].strip("[]") or row["name"].strip("[]")
        yield LayerTime(name=name, op=row["node type"], unit=unit, time_ns=round(float(row["avg ms"]) * 1e6))


def _ns(microseconds: str) -> int:
    """The program prints microseconds, with six digits where it is a mean."""
    return round(float(microseconds) * 1000)


def command_of(line: Sequence[str]) -> str:
    """The options of a call without paths, for a note: what somebody else has to type to get the same."""
    return " ".join(part for part in line[1:] if not part.startswith(("--graph", "--input", "--output")))
