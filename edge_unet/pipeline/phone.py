"""`edge-unet bench --device adb://SERIAL`: .tflite bundles beside their float twins on a phone.

LiteRT's benchmark_model runs there. It does not tell the time of single runs, so a sample is the mean of a call of 50
runs, calls of all subjects take turns, and the report says so wherever a reader could take it for something else.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from edge_unet import __version__
from edge_unet.core.artifact import Artifact, Census
from edge_unet.core.bundle import Bundle, open_bundle
from edge_unet.core.errors import MissingBackendError, UsageError
from edge_unet.core.files import require_writable
from edge_unet.core.limits import LayerTimes
from edge_unet.core.protocols import Runtime
from edge_unet.core.registry import lookup
from edge_unet.core.report import FULL, RAPID, BenchReport, Measurement, Schedule, VerifyResult, write_report
from edge_unet.core.spec import Precision
from edge_unet.devices.adb import AdbDevice
from edge_unet.devices.android import phone_environment, read_phone
from edge_unet.devices.benchmark_model import FEWEST_RUNS, WHERE, Statistic, per_sample
from edge_unet.devices.litert_phone import LiteRTPhone, Model, NoLogits, PhoneSession
from edge_unet.frames import read_frame
from edge_unet.measure.verify import verify_bundle
from edge_unet.pipeline.export import export
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.registry import TARGETS

Say = Callable[[str], None]
SCHEME = "adb://"
FEWEST_CALLS = 3
PROFILED_RUNS = 50
ELSEWHERE = {
    "ios": "copy it to a Mac, run edge_unet/devices/mac/bench_coreml.py there, and: edge-unet bench BUNDLE --imported",
    "jetson": "time it on the Jetson: edge-unet bench BUNDLE --device ssh://HOST",
}
NO_ENERGY = "energy: not measured; Android's battery statistics estimate it from a table and count the whole phone"


@dataclass
class _Timed:
    """A subject and what its calls gave."""

    bundle: Bundle
    model: Model
    calls: list[Statistic] = field(default_factory=list)
    warmup_runs: int = 0

    @property
    def label(self) -> str:
        """'kvasir android int8'."""
        artifact = self.bundle.manifest.artifact
        return f"{self.bundle.manifest.name} {artifact.target} {artifact.precision.value}"

    @property
    def spent_ns(self) -> int:
        """Counted runs together."""
        return sum(call.avg_ns * call.count for call in self.calls)

    @property
    def runs_a_call(self) -> int:
        """The fewest of any call: its time limit may have ended one early."""
        return min(call.count for call in self.calls)


def bench_on_phone(
    uri_or_serial: str,
    bundles: Sequence[Path],
    out: Path,
    *,
    benchmark_model: Path | None,
    rapid: bool = False,
    threads: int = 1,
    say: Say = print,
) -> BenchReport:
    """Time `bundles` (targets android and embedded-linux) and their FP32 twins on a phone, and check the golden
    frames there; write `out`, whole or not at all.

    `benchmark_model` is the user's Android binary. Raises UsageError for bundles, paths or a binary that cannot be
    used, before the phone is asked; MissingBackendError without adb; DeviceError where the phone is absent, refuses,
    is full or is lost. Nothing of ours stays on the phone then, as far as it still listens.
    """
    opened = [open_bundle(path) for path in bundles]
    _check_targets(opened)
    program = _check_program(benchmark_model)
    require_writable(out)
    schedule = _schedule(RAPID if rapid else FULL)
    with (
        _with_twins(opened) as subjects,
        AdbDevice(uri_or_serial.removeprefix(SCHEME)) as device,
        device.room() as room,
    ):
        before = read_phone(device)
        phone = LiteRTPhone(device, room, program, threads=threads, abis=before.abis)
        timed = [_Timed(subject, phone.load(subject)) for subject in subjects]
        say(f"timing {', '.join(t.label for t in timed)} on {before.properties.get('ro.product.model', 'a phone')}")
        verified, notes = _verify(phone, timed)
        order = _time(phone, timed, schedule, say)
        layer_times = [times for t in timed if (times := _profile(phone, t)) is not None]
        after = read_phone(device)
    packages = {"edge-unet": __version__, "benchmark_model": f"sha256 {phone.program_sha256[:12]}"}
    report = BenchReport(
        title="edge_unet bench on a phone",
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        environment=phone_environment(before, after, threads=threads, packages=packages),
        schedule=schedule,
        burst_order=order,
        measurements=tuple(_measurement(phone, t) for t in timed),
        verified=tuple(verified),
        layer_times=tuple(layer_times),
        notes=(*notes, *_notes(timed), NO_ENERGY),
    )
    write_report(out, report)
    _tell(report, say)
    return report


def _check_targets(bundles: Sequence[Bundle]) -> None:
    if not bundles:
        raise UsageError("bench: no bundle given; expected one of edge-unet export --target android")
    for bundle in bundles:
        target = bundle.manifest.artifact.target
        if target not in ("android", "embedded-linux"):
            way = ELSEWHERE.get(target, "time it on this machine: edge-unet bench BUNDLE")
            raise UsageError(f"{bundle.folder}: a phone runs targets android and embedded-linux, not {target}; {way}")


def _check_program(path: Path | None) -> Path:
    """Raise UsageError unless it is a file that could be the program; each says where to get the right one."""
    if path is None:
        raise UsageError(f"bench on a phone needs LiteRT's benchmark_model: --benchmark-model PATH; {WHERE}")
    if not path.is_file():
        raise UsageError(f"{path}: no such file; {WHERE}")
    with path.open("rb") as stream:
        head = stream.read(4)
    if head[:2] == b"PK":
        raise UsageError(f"{path}: an Android app or archive, expected the native program; {WHERE}")
    if not head:
        raise UsageError(f"{path}: an empty file; {WHERE}")
    return path


def _schedule(asked: Schedule) -> Schedule:
    """Calls of 50 runs by turns; a call warms up in its own process, so none of its runs is discarded."""
    calls = max(FEWEST_CALLS, -(-asked.runs // FEWEST_RUNS))
    return asked.model_copy(update={"runs": calls * FEWEST_RUNS, "burst": FEWEST_RUNS, "discarded": 0})


@contextmanager
def _with_twins(bundles: Sequence[Bundle]) -> Iterator[list[Bundle]]:
    """Every bundle with its FP32 twin, the same graph with Q/DQ removed, made in a temporary folder."""
    found: dict[tuple[str, str, str], Bundle] = {}

    def add(bundle: Bundle) -> None:
        artifact = bundle.manifest.artifact
        found.setdefault((artifact.target, artifact.precision.value, artifact.parent_sha256), bundle)

    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        for bundle in bundles:
            artifact = bundle.manifest.artifact
            add(bundle)
            if artifact.precision is not Precision.FP32:
                target = lookup(TARGETS, artifact.target, "target")
                quiet: list[str] = []
                folder = Path(room) / artifact.parent_sha256[:16]
                add(export(bundle.canonical, (target,), folder, Precision.FP32, quiet.append)[0])
        yield list(found.values())


def _verify(phone: LiteRTPhone, timed: Sequence[_Timed]) -> tuple[list[VerifyResult], list[str]]:
    """The golden frames through the phone, against the reference here; or why not."""
    results: list[VerifyResult] = []
    for one in timed:
        manifest = one.bundle.manifest
        if not manifest.golden:
            return [], [f"golden frames: {one.bundle.folder.name} has none; export it again"]
        target = replace(lookup(TARGETS, manifest.artifact.target, "target"), open=_opener(phone, one))
        colours = manifest.preprocess.color_order
        frames = np.stack([read_frame(one.bundle.folder / golden.frame, colours) for golden in manifest.golden])
        try:
            with open_reference(one.bundle.canonical, manifest.artifact.precision) as reference:
                results.append(verify_bundle(one.bundle, target, reference, frames))
        except (NoLogits, MissingBackendError) as error:
            return [], [f"golden frames: not checked on the phone: {error}"]
    return results, ["verified on the phone over the golden frames of each bundle, one run each"]


def _opener(phone: LiteRTPhone, one: _Timed) -> Runtime:
    @contextmanager
    def open_on_phone(
        folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False
    ) -> Iterator[PhoneSession]:
        yield phone.session(one.model)

    return open_on_phone


def _time(phone: LiteRTPhone, timed: Sequence[_Timed], schedule: Schedule, say: Say) -> tuple[str, ...]:
    """One call each by turns until all are done; the order of the calls."""
    order: list[str] = []
    active = list(timed)
    while active:
        for one in active:
            output = phone.time(one.model, FEWEST_RUNS, schedule.warmup_runs, schedule.warmup_ns)
            one.calls.append(output.inference)
            one.warmup_runs += output.warmup.count if output.warmup else schedule.warmup_runs
            order.append(one.label)
        active = [one for one in active if not _done(one, schedule)]
        say(f"call {len(order) // len(timed)}: {', '.join(f'{t.calls[-1].avg_ns / 1e6:.3f} ms' for t in timed)}")
    return tuple(order)


def _done(one: _Timed, schedule: Schedule) -> bool:
    if len(one.calls) < FEWEST_CALLS:
        return False
    return len(one.calls) * FEWEST_RUNS >= schedule.runs or one.spent_ns >= schedule.limit_ns


def _profile(phone: LiteRTPhone, one: _Timed) -> LayerTimes | None:
    operators = phone.profile(one.model, PROFILED_RUNS).operators
    if not operators:
        return None
    return LayerTimes(
        **_subject(phone, one),
        source="benchmark_model --enable_op_profiling, mean over the runs",
        runs=PROFILED_RUNS,
        layers=operators,
    )


def _subject(phone: LiteRTPhone, one: _Timed) -> dict[str, Any]:
    manifest = one.bundle.manifest
    return {
        "target": manifest.artifact.target,
        "precision": manifest.artifact.precision,
        "runtime": f"{phone.runtime}, {per_sample(one.runs_a_call)}",
        "bundle": manifest.name,
        "artifact_sha256": manifest.artifact.sha256,
    }


def _measurement(phone: LiteRTPhone, one: _Timed) -> Measurement:
    census: Census = phone.census(one.model)
    return Measurement(
        **_subject(phone, one),
        scope="model",
        warmup_runs=one.warmup_runs,
        samples_ns=tuple(call.avg_ns for call in one.calls),
        peak_rss_bytes=one.model.first.peak_rss_bytes,
        census=census,
    )


def _notes(timed: Sequence[_Timed]) -> list[str]:
    """What a reader has to know of these samples."""
    notes = [
        "benchmark_model does not tell the time of single runs: "
        f"{per_sample(min(t.runs_a_call for t in timed))} in a process of its own, so the quantiles are those of "
        "means, and their spread is smaller than that of single runs"
    ]
    for one in timed:
        slowest = max(call.max_ns for call in one.calls)
        tails = [call.p95_ns for call in one.calls if call.p95_ns is not None]
        tail = f", 95th percentile within a call at most {max(tails) / 1e6:.3f} ms" if tails else ""
        notes.append(
            f"{one.label}: {sum(call.count for call in one.calls)} runs in {len(one.calls)} calls; single runs from "
            f"{min(call.min_ns for call in one.calls) / 1e6:.3f} to {slowest / 1e6:.3f} ms{tail}"
        )
    return notes


def _tell(report: BenchReport, say: Say) -> None:
    for m in report.measurements:
        say(
            f"{m.target:<15} {m.precision.value:<5} p50 {m.p50_ns / 1e6:8.3f} ms  p90 {m.p90_ns / 1e6:8.3f} ms  "
            f"{m.runs} samples"
        )
    for result in report.verified:
        say(
            f"{result.label}: {result.golden_equal} of {result.golden_images} golden masks equal, agreement "
            f"{result.agreement:.3%}: {'passed' if result.passed else 'FAILED'}"
        )
    for warning in report.environment.warnings:
        say(f"warning: {warning}")
