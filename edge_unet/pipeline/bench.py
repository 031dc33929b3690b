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
    say: Callable[[str], None] = print,
) -> BenchReport:
    """Time every bundle with its FP32 twin (and bf16 where the CPU has it) and ONNX Runtime FP32; write `out`.

    The twins are the same graph with Q/DQ removed. Raises UsageError or ArtifactError for a bad bundle, and UsageError
    where `out` cannot be written, before anything is timed.
    """
    bundles = [open_bundle(path) for path in paths]
    require_writable(out)
    with _candidates(bundles, say) as candidates:
        first = bundles[0].manifest
        frame = scenes(first.preprocess, first.scene, 1).frames[0]
        say(f"timing {', '.join(c.label for c in candidates)} on {threads} thread(s)")
        report = measure(candidates, frame, schedule=RAPID if rapid else FULL, threads=threads)
    report = report.model_copy(update={"created": datetime.now(timezone.utc).isoformat(timespec="seconds")})
    write_report(out, report)
    for m in report.measurements:
        memory = f", peak {m.peak_rss_bytes / 2**20:.0f} MiB" if m.peak_rss_bytes and m.scope == "model" else ""
        say(
            f"{m.target:<15} {m.precision.value:<5} {m.scope:<11} p50 {m.p50_ns / 1e6:8.3f} ms  "
            f"p90 {m.p90_ns / 1e6:8.3f} ms  p99 {m.p99_ns / 1e6:8.3f} ms  {m.runs} runs{memory}"
        )
    for row in report.not_measured:
        say(f"{row.target:<15} {row.precision.value:<5} not measured: {row.reason}")
    return report


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
