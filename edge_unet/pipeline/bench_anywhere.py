"""`edge-unet bench`: on this machine, on a device, or from a result that was taken elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_unet.core.bundle import open_bundle
from edge_unet.core.errors import AccuracyGateError, UsageError
from edge_unet.core.report import BenchReport, write_report
from edge_unet.devices.uri import parse_uri

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How to measure. `limits`, `layers` and `cached_peaks` hold for this machine alone, `benchmark_model` for
    phones; `imported` takes the place of measuring."""

    rapid: bool = False
    threads: int = 1
    limits: bool = True
    layers: bool = False
    cached_peaks: bool = False
    benchmark_model: Path | None = None
    imported: Path | None = None


def bench_anywhere(device: str, bundles: Sequence[Path], out: Path, options: Options, *, say: Say) -> BenchReport:
    """Measure, or import, and write `out`. Raises UsageError for options that do not belong to the device, and what
    the way that is taken raises."""
    kind = parse_uri(device).kind
    if options.imported is not None:
        if kind != "local":
            raise UsageError(f"bench: --imported takes the place of measuring; leave --device {device} out")
        return _imported(options.imported, bundles, out, say)
    if options.layers and kind != "local":
        raise UsageError(f"bench: --layers profiles this machine; received --device {device}: leave one of them out")
    if kind == "ssh":
        from edge_unet.pipeline.remote import bench_on

        return bench_on(device, bundles, out, rapid=options.rapid, threads=options.threads, say=say)
    if kind == "adb":
        from edge_unet.pipeline.phone import bench_on_phone

        binary = options.benchmark_model
        report = bench_on_phone(
            device, bundles, out, benchmark_model=binary, rapid=options.rapid, threads=options.threads, say=say
        )
        if report.passed is False:
            reasons = [f"{v.label}: {'; '.join(v.reasons)}" for v in report.verified if not v.passed]
            raise AccuracyGateError(f"{out} is written, but golden masks differ on the phone: {' | '.join(reasons)}")
        return report
    from edge_unet.pipeline.bench import bench

    return bench(
        bundles, out, rapid=options.rapid, threads=options.threads, limits=options.limits, layers=options.layers,
        cached_peaks=options.cached_peaks, say=say,
    )  # fmt: skip


def _imported(path: Path, bundles: Sequence[Path], out: Path, say: Say) -> BenchReport:
    """A result from a Mac, checked against the bundles it is about."""
    from edge_unet.devices.imported import read_imported

    first, *more = [open_bundle(folder) for folder in bundles]
    report = read_imported(path, first, *more)
    write_report(out, report)
    say(f"{out}: {len(report.measurements)} measurements of {path.name}")
    return report
