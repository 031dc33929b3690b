"""`edge-unet bench --device ssh://…`: bundles beside their float twins, interleaved, on a device that runs Python.

The model alone is timed: end to end is what the camera measures on the device.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from edge_unet.core.artifact import Census
from edge_unet.core.bundle import Bundle, open_bundle
from edge_unet.core.errors import UsageError
from edge_unet.core.files import require_writable
from edge_unet.core.registry import lookup
from edge_unet.core.report import (
    FULL,
    RAPID,
    BenchReport,
    Measurement,
    NotMeasured,
    Schedule,
    StageTime,
    percentile_ns,
    write_report,
)  # fmt: skip
from edge_unet.core.spec import Precision
from edge_unet.devices.drive import drive
from edge_unet.devices.job import JOB, RESULT, JobSubject, write_job
from edge_unet.devices.open import open_host
from edge_unet.devices.result import Result, ResultRow, read_result
from edge_unet.devices.uri import parse_uri
from edge_unet.measure.verify import GATE
from edge_unet.pipeline.bench import BASELINE
from edge_unet.pipeline.export import export
from edge_unet.targets.registry import TARGETS
from edge_unet.targets.tensorrt.kit.build import AGREEMENT

ENGINES = {
    "cpu": "openvino", "android": "tflite", "embedded-linux": "tflite", "onnx": "onnxruntime", "jetson": "tensorrt",
}  # fmt: skip
"""Target -> the runtime that the runner opens its artifacts with."""
_SETUP_S, _KIT_S = 600.0, 3600.0


def bench_on(
    uri: str,
    bundles: Sequence[Path],
    out: Path,
    *,
    rapid: bool = False,
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> BenchReport:
    """Time every bundle on a device beside its FP32 twin (and bf16 where it has it) and ONNX Runtime FP32; write `out`.

    Golden frames are checked there first. Raises UsageError or ArtifactError for a bad bundle or URI before anything
    is sent, MissingBackendError naming what to install on the device, AccuracyGateError where a golden mask disagrees
    there, DeviceError where it cannot be reached, is full or is lost. Nothing is written then, here or there.
    """
    host = open_host(uri)
    opened = [open_bundle(path) for path in bundles]
    require_writable(out)
    schedule = RAPID if rapid else FULL
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        subjects, left_out = job_subjects(opened, Path(room) / "twins")
        if not subjects:
            raise UsageError(f"{uri}: nothing to run there: {'; '.join(f'{r.target}: {r.reason}' for r in left_out)}")
        job = Path(room) / "job"
        job.mkdir()
        write_job(subjects, schedule.model_dump(), threads, job)
        with host as device, device.room() as there:
            say(f"{device.label}: {', '.join(s.label for s in subjects)} on {threads} thread(s)")
            device.push(job, there / "job")
            drive(device, there / "job", ["bench", JOB, RESULT], timeout_s=_patience_s(subjects, schedule), say=say)
            device.pull(there / "job" / RESULT, Path(room) / RESULT)
        hashes = [subject.bundle.manifest.artifact.sha256 for subject in subjects]
        result = read_result(Path(room) / RESULT, uri, hashes)
    report = _report(uri, subjects, left_out, result, schedule, threads)
    write_report(out, report)
    _tell(report, say)
    return report


def job_subjects(bundles: Sequence[Bundle], room: Path) -> tuple[list[JobSubject], list[NotMeasured]]:
    """The bundles and their float twins, which are written into `room`, and what no runner can open.

    Raises UsageError where two bundles would have the same label.
    """
    found: dict[str, JobSubject] = {}
    left_out: list[NotMeasured] = []

    def add(bundle: Bundle, precision: Precision, *, optional: bool = False) -> None:
        subject = _subject(bundle, precision, optional=optional)
        same = found.setdefault(subject.label, subject)
        if same.bundle.manifest.artifact.parent_sha256 != bundle.manifest.artifact.parent_sha256:
            raise UsageError(
                f"bench: two bundles have the same name, target and precision: {subject.label}; "
                "give each one once, or other names to other models (name in the recipe)"
            )

    for bundle in bundles:
        artifact = bundle.manifest.artifact
        lookup(TARGETS, artifact.target, "target")
        if artifact.target not in ENGINES:
            reason = f"the runner for devices opens {', '.join(ENGINES)}; it has no runtime for this target"
            left_out.append(NotMeasured(target=artifact.target, precision=artifact.precision, reason=reason))
            continue
        add(bundle, artifact.precision)
        for name in dict.fromkeys((artifact.target, BASELINE)):
            if Precision.FP32 not in TARGETS[name].precisions:
                continue
            folder = room / artifact.parent_sha256[:16]
            (twin,) = export(bundle.canonical, (TARGETS[name],), folder, Precision.FP32, lambda line: None)
            add(twin, Precision.FP32, optional=name != artifact.target)
            if ENGINES[name] == "openvino":
                add(twin, Precision.BF16, optional=True)
    return list(found.values()), left_out


def _subject(bundle: Bundle, precision: Precision, *, optional: bool) -> JobSubject:
    """bf16 rounds otherwise than the FP32 reference: it is reported and not gated."""
    engine = ENGINES[bundle.manifest.artifact.target]
    gates: dict[str, float | None] = {precision.value: None if precision is Precision.BF16 else GATE}
    if engine == "tensorrt":
        gates = dict(AGREEMENT)
    return JobSubject(bundle, engine, precision, gates, optional)


def _patience_s(subjects: Sequence[JobSubject], schedule: Schedule) -> float:
    """Far more than a run takes: it ends what hangs."""
    kits = sum(subject.engine == "tensorrt" for subject in subjects)
    return _SETUP_S + len(subjects) * (schedule.limit_ns / 1e9 * 2 + 60) + kits * _KIT_S


def _report(
    uri: str,
    subjects: Sequence[JobSubject],
    left_out: Sequence[NotMeasured],
    result: Result,
    schedule: Schedule,
    threads: int,
) -> BenchReport:
    skipped = [
        NotMeasured(
            target=subjects[row.subject].bundle.manifest.artifact.target,
            precision=subjects[row.subject].precision,
            reason=row.reason,
        )
        for row in result.skipped
    ]
    agreed = [
        f"golden frames on the device: {subjects[row.subject].name} {row.precision.value} agrees in "
        f"{sum(row.golden) / len(row.golden):.4%} of the pixels, worst frame {min(row.golden):.4%}"
        for row in result.rows if row.golden
    ]  # fmt: skip
    return BenchReport(
        title="edge_unet bench",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=result.environment.model_copy(update={"device": parse_uri(uri).kind, "threads": threads}),
        schedule=schedule,
        burst_order=result.burst_order,
        measurements=tuple(_measurement(subjects[row.subject], row) for row in result.rows),
        not_measured=(*left_out, *skipped),
        notes=tuple(agreed),
    )


def _measurement(subject: JobSubject, row: ResultRow) -> Measurement:
    manifest = subject.bundle.manifest
    stages = {
        name: StageTime(p50_ns=percentile_ns(times, 50), p90_ns=percentile_ns(times, 90))
        for name, times in row.stages_ns.items()
    }
    return Measurement(
        target=manifest.artifact.target,
        precision=row.precision,
        runtime=row.runtime,
        bundle=manifest.name,
        artifact_sha256=row.sha256,
        scope="model",
        warmup_runs=row.warmup_runs,
        samples_ns=row.samples_ns,
        stage_ns=stages or None,
        peak_rss_bytes=row.peak_rss_bytes,
        energy_mj=row.energy_mj,
        energy_source=row.energy_source,
        census=Census(layers=row.layers, source="engine inspector") if row.layers is not None else None,
    )


def _tell(report: BenchReport, say: Callable[[str], None]) -> None:
    """The rows, and what the machine's state makes of them."""
    for m in report.measurements:
        memory = f", peak {m.peak_rss_bytes / 2**20:.0f} MiB" if m.peak_rss_bytes else ""
        energy = f", {m.energy_mj:.1f} mJ" if m.energy_mj is not None else ""
        say(
            f"{m.target:<15} {m.precision.value:<5} p50 {m.p50_ns / 1e6:8.3f} ms  p90 {m.p90_ns / 1e6:8.3f} ms  "
            f"p99 {m.p99_ns / 1e6:8.3f} ms  {m.runs} runs{memory}{energy}"
        )
    for row in report.not_measured:
        say(f"{row.target:<15} {row.precision.value:<5} not measured: {row.reason}")
    for line in report.environment.warnings:
        say(f"warning: {line}")
