"""`edge-unet bench`: bundles beside their float twins, interleaved, on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

from edge_unet.core.bundle import Bundle, open_bundle
from edge_unet.core.errors import EdgeUnetError
from edge_unet.core.files import require_writable
from edge_unet.core.limits import Peaks
from edge_unet.core.registry import lookup
from edge_unet.core.report import FULL, RAPID, BenchReport, write_report
from edge_unet.core.spec import Precision
from edge_unet.measure.bench import Candidate
from edge_unet.measure.bench import bench as measure
from edge_unet.pipeline.export import export
from edge_unet.pipeline.frames import scenes
from edge_unet.targets.registry import TARGETS

BASELINE = "onnx"
"""The target whose FP32 is in every benchmark: what a user runs who did nothing."""


def bench(
    paths: Sequence[Path],
    out: Path,
    *,
    rapid: bool = False,
    threads: int = 1,
    limits: bool = True,
    layers: bool = False,
    cached_peaks: bool = False,
    say: Callable[[str], None] = print,
) -> BenchReport:
    """Time every bundle with its FP32 twin (and bf16 where the CPU has it) and ONNX Runtime FP32; write `out`.

    The twins are the same graph with Q/DQ removed. `limits` sets each beside the least time that this machine would
    need, by peaks that are measured first or, with `cached_peaks`, may be those of an earlier run; `layers` adds where
    the time goes, by each runtime's own profiler. Raises UsageError or ArtifactError for a bad bundle, and UsageError
    where `out` cannot be written, before anything is timed.
    """
    bundles = [open_bundle(path) for path in paths]
    require_writable(out)
    with _candidates(bundles, say) as candidates:
        first = bundles[0].manifest
        frame = scenes(first.preprocess, first.scene, 1).frames[0]
        say(f"timing {', '.join(c.label for c in candidates)} on {threads} thread(s)")
        report = measure(
            candidates, frame, schedule=RAPID if rapid else FULL, threads=threads, with_limits=limits,
            with_layer_times=layers, cached_peaks=cached_peaks,
        )  # fmt: skip
    report = report.model_copy(update={"created": datetime.now(timezone.utc).isoformat(timespec="seconds")})
    write_report(out, report)
    for line in _lines(report):
        say(line)
    return report


def _lines(report: BenchReport) -> Iterator[str]:
    """One line a measurement, with its limit; then the machine's peaks and what was not measured."""
    limits = {(row.bundle, row.label): row for row in report.limits}
    for m in report.measurements:
        more = ""
        if m.scope == "model":
            row = limits.get((m.bundle, m.label))
            more += f", limit {row.limit_ns / 1e6:.2f} ms, x {row.ratio:.1f}" if row else ""
            more += f", peak {m.peak_rss_bytes / 2**20:.0f} MiB" if m.peak_rss_bytes else ""
        yield (
            f"{m.target:<15} {m.precision.value:<5} {m.scope:<11} p50 {m.p50_ns / 1e6:8.3f} ms  "
            f"p90 {m.p90_ns / 1e6:8.3f} ms  p99 {m.p99_ns / 1e6:8.3f} ms  {m.runs} runs{more}"
        )
    if report.peaks is not None:
        yield f"peaks: {_peaks_in_words(report.peaks)}"
    for times in report.layer_times:
        worst = sorted(times.layers, key=lambda layer: -layer.time_ns)[:3]
        shares = (f"{layer.name} {layer.time_ns / max(1, times.total_ns):.0%}" for layer in worst)
        yield f"{times.target:<15} {times.precision.value:<5} most time in {', '.join(shares)} ({times.source})"
    for left_out in report.not_measured:
        yield f"{left_out.target:<15} {left_out.precision.value:<5} not measured: {left_out.reason}"
    yield from report.notes


def _peaks_in_words(peaks: Peaks) -> str:
    """'INT8 453, bf16 219, FP32 112 GMAC/s; 158 and 34 GB/s (how)'."""
    rates = {"INT8": peaks.int8_macs_per_s, "bf16": peaks.bf16_macs_per_s, "FP32": peaks.fp32_macs_per_s}
    macs = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in rates.items() if rate is not None)
    small, large = peaks.small_bytes_per_s / 1e9, peaks.large_bytes_per_s / 1e9
    return f"{macs} GMAC/s; {small:.0f} GB/s in the caches, {large:.0f} beyond ({peaks.method})"


@contextmanager
def _candidates(bundles: Sequence[Bundle], say: Callable[[str], None]) -> Iterator[list[Candidate]]:
    """The bundles and their float twins, which live in a temporary folder."""
    found: dict[str, Candidate] = {}

    def add(candidate: Candidate) -> None:
        found.setdefault(f"{candidate.label} {candidate.bundle.manifest.artifact.parent_sha256}", candidate)

    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        for bundle in bundles:
            artifact = bundle.manifest.artifact
            target = lookup(TARGETS, artifact.target, "target")
            add(Candidate(bundle, target))
            for name in dict.fromkeys((artifact.target, BASELINE)):
                twin_target = TARGETS[name]
                if not twin_target.executes_here or Precision.FP32 not in twin_target.precisions:
                    continue
                folder = Path(room) / artifact.parent_sha256[:16]
                quiet: list[str] = []
                (twin,) = export(bundle.canonical, (twin_target,), folder, Precision.FP32, quiet.append)
                add(Candidate(twin, twin_target))
                if name == artifact.target and _bf16_opens(twin):
                    add(Candidate(twin, twin_target, bf16=True))
        say(f"{len(found)} subjects")
        yield list(found.values())


def _bf16_opens(bundle: Bundle) -> bool:
    """Whether this target and CPU have bfloat16 arithmetic."""
    artifact = bundle.manifest.artifact
    try:
        with TARGETS[artifact.target].open(bundle.folder, artifact, threads=1, bf16=True):
            return True
    except EdgeUnetError:
        return False
