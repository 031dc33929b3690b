"""The arguments of benchmark_model and what is read out of its output, format by format."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from devices.sandbox_phone import write_program
from small_road import quiet

from edge_unet.core.limits import LayerTime
from edge_unet.devices.benchmark_model import Feed, Statistic, arguments, command_of, parse, per_sample
from edge_unet.devices.device import DeviceError
from edge_unet.pipeline.export import export, resolve_targets

OLD = """STARTING!
Log parameter values verbosely: [0]
Min num runs: [50]
Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the delegate w/ 3 delegate \
kernels.
Running benchmark for at least 10 iterations and at least 1 seconds but terminate if exceeding 300 seconds.
count=118 first=12001 curr=8400 min=8300 max=12001 avg=8471.25 std=301

Running benchmark for at least 50 iterations and at least 0 seconds but terminate if exceeding 300 seconds.
count=50 first=8420 curr=8390 min=8310 max=9100 avg=8433.5 std=77

Inference timings in us: Init: 5685, First inference: 12001, Warmup (avg): 8471.25, Inference (avg): 8433.5
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE.
Memory footprint delta from the start of the tool (MB): init=3.5 overall=9.25
Overall peak memory footprint (MB) via periodic monitoring: 12.5
"""
NEW = """INFO: STARTING!
INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
INFO: count=3 curr=120(all same) p5=120 median=120 p95=120

INFO: count=50 first=8420 curr=8390 min=8310 max=1.20391e+06 avg=1.12346e+04 std=77 p5=8320 median=8430 p95=8612

INFO: Inference timings in us: Init: 5685, First inference: 120, Warmup (avg): 120, Inference (avg): 11234.6
INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t         TfLiteXNNPackDelegate\t    7.998\t    8.001\t 96.200%\t 96.200%\t     0.000\t        1\t[logits]:41
\t                 DEQUANTIZE\t    0.300\t    0.316\t  3.800%\t100.000%\t     0.000\t        1\t[out]:42

============================== Top by Computation Time ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t         TfLiteXNNPackDelegate\t    7.998\t    8.001\t 96.200%\t 96.200%\t     0.000\t        1\t[logits]:41

Timings (microseconds): count=50 first=8298 curr=8301 min=8200 max=9000 avg=8317 std=60
Memory (bytes): count=0
2 nodes observed
"""
INSIDE = """Delegate internal:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t    Convolution (NHWC, QS8)\t    1.0\t    1.250\t 50.0%\t 50.0%\t     0.0\t        1\tConvolution (NHWC, QS8) IGEMM
\t          Add (ND, QS8)\t    1.000\t    0.5\t 50.000%\t100.000%\t     0.000\t        1\tAdd (ND, QS8):1

============================== Top by Computation Time ==============================
"""


def test_the_command_line() -> None:
    line = arguments("./benchmark_model", "m.tflite", threads=4, runs=50, warmup_runs=10, warmup_s=1, limit_s=300)
    assert line == [
        "./benchmark_model", "--graph=m.tflite", "--num_threads=4", "--warmup_runs=10", "--warmup_min_secs=1",
        "--num_runs=50", "--min_secs=0", "--max_secs=300", "--use_xnnpack=true",
    ]  # fmt: skip
    fed = arguments("b", "m", threads=1, runs=1, feed=Feed((1, 4, 4, 3), "f.bin", "l.bin"), memory=True, profile=True)
    assert fed[-6:] == [
        "--report_peak_memory_footprint=true", "--enable_op_profiling=true", "--input_layer=image",
        "--input_layer_shape=1,4,4,3", "--input_layer_value_files=image:f.bin", "--output_filepath=l.bin",
    ]  # fmt: skip
    assert "m.tflite" not in command_of(line)
    assert command_of(line).startswith("--num_threads=4 --warmup_runs=10")


def test_the_output_of_an_older_version() -> None:
    out = parse(OLD)
    assert out.inference == Statistic(50, 8_433_500, 8_310_000, 9_100_000, 77_000)
    assert out.warmup is not None
    assert (out.warmup.count, out.warmup.avg_ns) == (118, 8_471_250)
    assert (out.init_ns, out.first_ns, out.peak_rss_bytes) == (5_685_000, 12_001_000, round(12.5 * 2**20))
    assert (out.delegate, out.partitions, out.operators) == ("XNNPACK", 3, ())


def test_the_output_of_a_newer_version_with_its_operators() -> None:
    out = parse(NEW)
    assert out.inference == Statistic(50, 11_234_600, 8_310_000, 1_203_910_000, 77_000, 8_430_000, 8_612_000)
    assert out.warmup == Statistic(3, 120_000, 120_000, 120_000, 0, 120_000, 120_000)
    assert (out.delegate, out.partitions, out.peak_rss_bytes) == ("XNNPACK", 1, None)
    assert out.operators == (
        LayerTime(name="logits", op="TfLiteXNNPackDelegate", unit="built-in kernel", time_ns=8_001_000),
        LayerTime(name="out", op="DEQUANTIZE", unit="built-in kernel", time_ns=316_000),
    )


def test_the_operators_inside_the_delegate_are_preferred() -> None:
    name = "Convolution (NHWC, QS8) IGEMM"
    first = LayerTime(name=name, op="Convolution (NHWC, QS8)", unit="XNNPACK", time_ns=1_250_000)
    assert parse(NEW + INSIDE).operators[0] == first
    assert [row.time_ns for row in parse(NEW + INSIDE).operators] == [1_250_000, 500_000]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it printed nothing"),
        ("INFO: STARTING!\nERROR: Failed to load model x\nERROR: Benchmarking failed.\n", "Failed to load model x"),
        ("INFO: count=3 curr=1(all same)\nINFO: count=0\n", "count=0"),
        ("CANNOT LINK EXECUTABLE: library not found", "CANNOT LINK EXECUTABLE"),
    ],
)
def test_an_output_without_timings_is_an_error_with_its_words(text: str, said: str) -> None:
    with pytest.raises(DeviceError, match=f"gave no timings; it said: .*{said}"):
        parse(text)


def test_what_a_sample_is() -> None:
    assert per_sample(50) == "each sample the mean of 50 runs"


@pytest.fixture(scope="module")
def model(tiny_canonical: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (bundle,) = export(tiny_canonical, resolve_targets("android"), tmp_path_factory.mktemp("tiny"), say=quiet)
    return bundle.artifact


def test_the_wheels_own_program_is_understood(model: Path) -> None:
    """litert-benchmark, for real, on this machine."""
    program = shutil.which("litert-benchmark", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("litert-benchmark is not installed (extra tflite)")
    line = [program, "--model", str(model), "--num_threads", "1", "--num_runs", "20", "--warmup_runs", "3"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)
    inference = parse(done.stdout).inference
    assert inference.count == 20
    assert 0 < inference.min_ns <= inference.avg_ns <= inference.max_ns
    assert inference.median_ns is not None


def test_the_stand_in_speaks_as_the_original_does(model: Path, tmp_path: Path) -> None:
    program = write_program(tmp_path / "program")
    line = ["sh", *arguments(str(program), str(model), threads=1, runs=7, warmup_runs=2, memory=True)]
    out = parse(subprocess.run(line, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert (out.inference.count, out.delegate) == (7, "XNNPACK")
    assert out.warmup is not None
    assert out.warmup.count == 2
    assert (out.peak_rss_bytes or 0) > 2**20
