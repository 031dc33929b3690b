"""Time peers and our bundles in one run: every network in every mode a user has, model only, one thread, in turn.

Each is opened, compared with torch, and refused where its FP32 logits are others; what cannot be made or opened is a
row of `not_measured` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from peers.costs import cost_of_graph
from peers.networks import PEERS, check_size
from peers.ours import OURS, preset_bundles, reference_bundles
from peers.prepare import (
    Calibration,
    Exported,
    calibration,
    check_frames,
    export_peer,
    float_ir,
    frame_spec,
    in_line,
    int8_ir,
    ir_artifact,
    onnx_artifact,
    versions,
)
from peers.runtimes import OPENVINO, OPENVINO_BF16, ORT, convolutions, not_int8, open_peer

from edge_unet.canonical import CanonicalGraph, load_graph
from edge_unet.core.artifact import Artifact, Census
from edge_unet.core.bundle import Bundle, open_bundle
from edge_unet.core.errors import ArtifactError, EdgeUnetError, UsageError
from edge_unet.core.protocols import Runtime, Session
from edge_unet.core.registry import lookup
from edge_unet.core.report import FULL, BenchReport, Measurement, NotMeasured, Schedule
from edge_unet.core.spec import Precision, PreprocessSpec, mask_from_logits
from edge_unet.devices.runner.energy import measure_energy
from edge_unet.frames import resize_frame
from edge_unet.measure.bench import ENERGY_S
from edge_unet.measure.environment import read_environment, with_after
from edge_unet.measure.latency import Samples, Timed, measure_latency, model_only
from edge_unet.measure.limit import foreign_graph
from edge_unet.measure.limit import with_limits as add_limits
from edge_unet.measure.masks import logits_of
from edge_unet.measure.memory import peak_rss_bytes
from edge_unet.measure.peaks import machine_peaks
from edge_unet.pipeline.frames import scenes
from edge_unet.targets.openvino.runtime import has_bf16
from edge_unet.targets.registry import TARGETS

Say = Callable[[str], None]
REFERENCE_SIZE = 256
FLOAT_TOLERANCE = 1e-3
"""Largest difference of FP32 logits to torch's, as a share of the largest logit."""


@dataclass(frozen=True)
class Row:
    """One network in one mode."""

    network: str
    target: str
    precision: Precision
    folder: Path
    artifact: Artifact
    runtime: Runtime
    preprocess: PreprocessSpec
    truth: NDArray[np.float32] | None = None
    """Torch's logits for the check frames; None for ours, which verify has compared."""

    @property
    def bf16(self) -> bool:
        """Whether a float artifact is opened in bfloat16."""
        return self.precision is Precision.BF16

    @property
    def label(self) -> str:
        """'pidnet_s peer openvino int8'."""
        return f"{self.network} {self.target} {self.precision.value}"


@dataclass(frozen=True)
class Opened:
    """A row with its session."""

    row: Row
    session: Session
    census: Census | None
    timed: Timed


@dataclass
class Found:
    """What was made so far."""

    rows: list[Row] = field(default_factory=list)
    blocked: list[NotMeasured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    graphs: dict[str, CanonicalGraph] = field(default_factory=dict)
    """Artifact -> the graph that its limit is computed from: ours canonical, a peer's its float ONNX."""

    def block(self, network: str, target: str, precision: Precision, error: object) -> None:
        """Keep why a row has no latency."""
        reason = in_line(str(error))
        reason = reason if reason.startswith(network) else f"{network}: {reason}"
        self.blocked.append(NotMeasured(target=target, precision=precision, reason=reason))


def run_suite(
    names: Sequence[str],
    bundles: Sequence[Path],
    size: int,
    room: Path,
    schedule: Schedule,
    *,
    images: int = 100,
    reference: bool = True,
    presets: Sequence[str] = (),
    with_memory: bool = True,
    with_limits: bool = True,
    say: Say = print,
) -> BenchReport:
    """Prepare, check and time; all files are kept in `room`. `with_limits`: measured over limit of ours.

    Raises UsageError, before anything is made, for an unknown network, a size that one cannot take, or a bundle of
    another input size.
    """
    for name in names:
        check_size(name, size)
    found = Found()
    add_ours(found, [open_bundle(path) for path in bundles], size)
    if reference and size == REFERENCE_SIZE:
        add_ours(found, reference_bundles(room), size)
    elif reference:
        found.notes.append(
            f"The reference model takes {REFERENCE_SIZE}x{REFERENCE_SIZE} frames: it is not in this run."
        )
    add_ours(found, preset_bundles(presets, size, room), size)
    ranges = calibration(size, images)
    found.notes.append(f"INT8 peers: nncf.quantize defaults after constant folding, ranges from {ranges.name}.")
    for number, name in enumerate(names, start=1):
        say(f"[{number}/{len(names)}] {name}: export, convert, quantize")
        add_peer(found, name, size, ranges, room)
    peaks = machine_peaks(1, rapid=schedule.runs < FULL.runs) if with_limits and found.graphs else None
    report = time_rows(found, size, schedule, with_memory=with_memory, say=say)
    report = report if peaks is None else add_limits(report, found.graphs, peaks)
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return report.model_copy(update={"title": f"peers at {size}x{size}", "created": created})


def add_ours(found: Found, bundles: Sequence[Bundle], size: int) -> None:
    """One row a bundle, one cost a network. Raises UsageError for another size or a target that does not run here."""
    for bundle in bundles:
        manifest = bundle.manifest
        frame, artifact = manifest.preprocess, manifest.artifact
        if (frame.height, frame.width) != (size, size):
            raise UsageError(
                f"{bundle.folder}: takes {frame.width}x{frame.height} frames, the run is of {size}x{size}; "
                "export it for that size or change --size"
            )
        target = lookup(TARGETS, artifact.target, "target")
        if not target.executes_here:
            raise UsageError(f"{bundle.folder}: {target.name} does not execute here; give bundles of {', '.join(OURS)}")
        row = Row(manifest.name, target.name, artifact.precision, bundle.folder, artifact, target.open, frame)
        if row.label in [other.label for other in found.rows]:
            raise UsageError(
                f"{bundle.folder}: {row.label} is given twice; give other names to other models, or leave "
                "the reference model out with --no-reference"
            )
        found.rows.append(row)
        found.graphs[artifact.sha256] = graph = load_graph(bundle.canonical)
        note = cost_of_graph(manifest.name, graph).note()
        found.notes += [note] if note not in found.notes else []


def add_peer(found: Found, name: str, size: int, ranges: Calibration, room: Path) -> None:
    """A peer's rows. A step that fails blocks the rows that need it."""
    modes = {
        ORT: [Precision.FP32],
        OPENVINO: [Precision.FP32, Precision.BF16, Precision.INT8],
        OPENVINO_BF16: [Precision.INT8],
    }
    try:
        exported = export_peer(name, size, room)
    except ArtifactError as error:
        for target, precisions in modes.items():
            for precision in precisions:
                found.block(name, target, precision, error)
        return
    found.notes.append(exported.cost.note())
    graph = foreign_graph(exported.onnx)
    for target, precisions in modes.items():
        for precision in precisions:
            try:
                folder, artifact = _artifact_of(exported, target, precision, ranges, room)
            except EdgeUnetError as error:
                found.block(name, target, precision, error)
                continue
            found.rows.append(
                Row(name, target, precision, folder, artifact, open_peer, frame_spec(size), exported.truth)
            )
            found.graphs[artifact.sha256] = graph


def _artifact_of(
    exported: Exported, target: str, precision: Precision, ranges: Calibration, room: Path
) -> tuple[Path, Artifact]:
    if (precision is Precision.BF16 or target == OPENVINO_BF16) and not has_bf16():
        raise UsageError("OpenVINO finds no bfloat16 arithmetic on this CPU")
    if target == ORT:
        return onnx_artifact(exported)
    if precision is Precision.INT8:
        return ir_artifact(exported, int8_ir(exported, ranges, room), precision, target)
    return ir_artifact(exported, float_ir(exported, room), Precision.FP32, target)


def time_rows(found: Found, size: int, schedule: Schedule, *, with_memory: bool, say: Say) -> BenchReport:
    """Open and check every row, then let all that passed take turns."""
    peaks = {row.label: _peak(row) for row in found.rows} if with_memory else {}
    with ExitStack() as stack:
        opened = list(_opened(stack, found, size))
        if not opened:
            raise UsageError("no network could be opened: " + "; ".join(row.reason for row in found.blocked))
        say(f"timing {len(opened)} rows on 1 thread")
        energy = {o.row.label: measure_energy(o.timed.run, ENERGY_S) for o in opened}
        environment = read_environment(threads=1)
        timing = measure_latency([o.timed for o in opened], schedule)
        measurements = [
            _measurement(o, samples, peaks.get(o.row.label), energy[o.row.label])
            for o, samples in zip(opened, timing.samples, strict=True)
        ]
    return BenchReport(
        title="peers",
        environment=with_after(environment),
        schedule=schedule,
        burst_order=timing.burst_order,
        measurements=tuple(measurements),
        not_measured=tuple(found.blocked),
        notes=(*found.notes, f"Peers have random weights. Made with {versions()}."),
    )


def _peak(row: Row) -> int | None:
    try:
        return peak_rss_bytes(row.runtime, row.folder, row.artifact, bf16=row.bf16)
    except EdgeUnetError:
        return None  # opening it here says why


def _opened(stack: ExitStack, found: Found, size: int) -> Iterator[Opened]:
    """Every row that opens and gives torch's logits."""
    checks = check_frames(size)
    for row in found.rows:
        try:
            session = stack.enter_context(row.runtime(row.folder, row.artifact, bf16=row.bf16))
            census = session.census() if row.target != ORT else None
            if row.truth is not None:
                found.notes += checked(row, session, checks, row.truth, census)
        except EdgeUnetError as error:
            found.block(row.network, row.target, row.precision, error)
            continue
        frame = resize_frame(scenes(row.preprocess, "endoscopy", 1).frames[0], row.preprocess)
        yield Opened(row, session, census, model_only(row.label, session, frame, row.preprocess))


def checked(
    row: Row, session: Session, frames: NDArray[np.uint8], truth: NDArray[np.float32], census: Census | None
) -> list[str]:
    """What to note about a row. Raises ArtifactError where an FP32 row gives other logits than torch."""
    logits = np.concatenate([logits_of(session, frame, row.preprocess) for frame in frames])  # (N, 1, size, size)
    error, largest = float(np.abs(logits - truth).max()), float(np.abs(truth).max())
    same = float((mask_from_logits(logits) == mask_from_logits(truth)).mean())
    if row.precision is Precision.FP32 and not error <= FLOAT_TOLERANCE * largest:
        raise ArtifactError(
            f"{row.label}: logits differ from torch's by up to {error:.3g} where the largest is {largest:.3g}; "
            f"expected at most {FLOAT_TOLERANCE * largest:.3g}"
        )
    notes = [
        f"check: {row.label}: largest difference to torch {error:.2g} where the largest logit is {largest:.3g}, "
        f"{100 * same:.3f} % of mask pixels equal"
    ]
    if row.precision is Precision.INT8 and census is not None:
        left, whole = not_int8(census), len(convolutions(census))
        names = "; not: " + ", ".join(f"{layer.name} ({layer.unit})" for layer in left) if left else ""
        notes.append(f"int8: {row.label}: {whole - len(left)} of {whole} convolutions in INT8{names}")
    return notes


def _measurement(
    opened: Opened, samples: Samples, peak: int | None, energy: tuple[float | None, str | None]
) -> Measurement:
    row = opened.row
    return Measurement(
        target=row.target,
        precision=row.precision,
        runtime=opened.session.runtime,
        bundle=row.network,
        artifact_sha256=row.artifact.sha256,
        scope="model",
        warmup_runs=samples.warmup_runs,
        samples_ns=tuple(samples.total_ns),
        peak_rss_bytes=peak,
        energy_mj=energy[0],
        energy_source=energy[1],
        census=opened.census,
    )


NAMES = tuple(PEERS)
