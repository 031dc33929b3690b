"""The same mask, the same integers: an artifact against the canonical graph it was lowered from.

The reference is the canonical graph on ONNX Runtime with graph optimizations off. Engines round in different places,
so logits may differ by a few steps; the gate is on masks, and on integers that must be equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import CanonicalGraph, load_graph
from edge_unet.core.artifact import Artifact, Census
from edge_unet.core.bundle import Bundle
from edge_unet.core.confusion import Confusion
from edge_unet.core.errors import ArtifactError, GraphError
from edge_unet.core.files import sha256_of
from edge_unet.core.protocols import LayerSession, ModelledSession, Session, Target
from edge_unet.core.report import LayerTable, OtherModel, VerifyResult
from edge_unet.core.spec import Precision, PreprocessSpec, mask_from_logits
from edge_unet.frames import read_frame, read_mask
from edge_unet.measure.layers import FORCED_MAX_LSB, compare_layers
from edge_unet.measure.masks import check_frames, logits_of
from edge_unet.measure.readback import Integers, compare_integers

GATE = 0.999
"""Share of pixels that must have the reference's class, mean over images."""
METRIC_GATE = 0.001
"""Dice and IoU may differ by 0.1 points."""


@dataclass
class _Agreement:
    """Mask agreement over images; with `float_step` pixels near zero are counted apart."""

    float_step: float | None
    shares: list[float] = field(default_factory=list)
    equal_images: int = 0
    near_zero_pixels: int = 0
    max_difference: float = 0.0

    @property
    def mean(self) -> float:
        """Over the images."""
        return float(np.mean(self.shares))

    def add(self, reference: NDArray[np.float32], target: NDArray[np.float32]) -> None:
        """Both (1, C, H, W) logits of one image."""
        self.max_difference = max(self.max_difference, float(np.abs(reference - target).max()))
        left, right = mask_from_logits(reference)[0], mask_from_logits(target)[0]  # (H, W)
        differs = left != right
        near = 0
        if self.float_step is not None:
            near = int((differs & _near_zero(reference[0], target[0], self.float_step)).sum())
        self.near_zero_pixels += near
        counted = differs.size - near
        self.shares.append(1.0 - (int(differs.sum()) - near) / counted if counted else 1.0)
        self.equal_images += int(not differs.any())


def _near_zero(reference: NDArray[np.float32], target: NDArray[np.float32], step: float) -> NDArray[np.bool_]:
    """(H, W) pixels that lie, in both (C, H, W) logits, within half a step of zero, or of a tie of the two largest
    classes: there the reference's own rounding, which the target leaves out, decides the class."""
    if reference.shape[0] == 1:
        return np.asarray((np.abs(reference[0]) <= step / 2) & (np.abs(target[0]) <= step / 2))
    ours, theirs = target.argmax(0)[None], reference.argmax(0)[None]  # (1, H, W)
    margins = [
        np.abs(np.take_along_axis(logits, ours, 0) - np.take_along_axis(logits, theirs, 0))[0]
        for logits in (reference, target)
    ]
    return np.asarray((margins[0] <= step) & (margins[1] <= step))


@dataclass(frozen=True)
class _Masks:
    """What running both sides over the frames gave."""

    agreement: _Agreement
    target: Confusion | None
    reference: Confusion | None


@dataclass(frozen=True)
class _Golden:
    agreement: _Agreement
    stale: tuple[str, ...]
    worst: str


@dataclass(frozen=True)
class _Seen:
    """All that one session showed."""

    runtime: str
    reference: str
    step: float
    masks: _Masks
    golden: _Golden | None
    integers: Integers | None
    absent: Mapping[str, str]
    forced: LayerTable | None
    layers: LayerTable | None
    census: Census
    other_models: tuple[OtherModel, ...]


def verify_bundle(
    bundle: Bundle, target: Target, reference: Session, frames: NDArray[np.uint8],
    truths: NDArray[np.uint8] | None = None, *, gate: float | None = None, metric_gate: float | None = None,
    threads: int = 1, forced_frames: int = 2, layers: bool = False,
) -> VerifyResult:  # fmt: skip
    """Verify one bundle. `frames` (N, h, w, C) u8 at the input's size, `truths` (N, h, w) class ids or None.

    `reference` is open_reference of the bundle's own canonical graph in the artifact's precision. The gates are the
    target's own, else GATE and METRIC_GATE. `forced_frames`
    frames are teacher-forced where only an interpreter stands in.
    `layers` adds the layer table over the first frame of an INT8 artifact. A missed gate is a result with passed
    False and reasons, not an exception. Raises UsageError on frames of another size, ArtifactError where the
    canonical graph in the bundle is not the one the artifact was lowered from.
    """
    gate, metric_gate = gate or target.mask_gate or GATE, metric_gate or target.metric_gate or METRIC_GATE
    manifest = bundle.manifest
    preprocess, artifact = manifest.preprocess, manifest.artifact
    check_frames(frames, truths, preprocess)
    if artifact.parent_sha256 != sha256_of(bundle.canonical):
        raise ArtifactError(f"{bundle.folder}: the artifact was lowered from another canonical graph; export it again")
    graph = load_graph(bundle.canonical)
    read = target.read_back(bundle.folder, artifact) if artifact.precision is Precision.INT8 else None
    step = _logits_step(graph)
    float_step = step if target.float_output else None
    with target.open(bundle.folder, artifact, threads=threads) as session:
        seen = _Seen(
            runtime=session.runtime,
            reference=reference.runtime,
            step=step,
            masks=_compare_masks(bundle, session, reference, frames, truths, float_step),
            golden=_compare_golden(bundle, session, reference, float_step, gate),
            integers=compare_integers(graph, read, manifest.scheme) if read else None,
            absent=read.absent if read else {},
            forced=_forced(target, session, reference, frames[:forced_frames], preprocess) if read else None,
            layers=compare_layers(reference, session, frames[:1], preprocess) if layers and read else None,
            census=session.census(),
            other_models=tuple(
                _other_model(name, other, bundle, target, reference, frames, truths, step, forced_frames)
                for name, other in (session.other_models().items() if isinstance(session, ModelledSession) else ())
            ),
        )
    reasons = [
        *_mask_reasons(seen.masks, gate, metric_gate),
        *_golden_reasons(seen.golden, gate),
        *_integer_reasons(seen.integers),
        *_forced_reasons(seen.forced),
        *_census_reasons(artifact, seen.census),
        *_other_model_reasons(seen.other_models),
    ]
    return _result(bundle, target, seen, gate, tuple(reasons))


def _result(bundle: Bundle, target: Target, seen: _Seen, gate: float, reasons: tuple[str, ...]) -> VerifyResult:
    manifest, golden, integers = bundle.manifest, seen.golden, seen.integers
    agreement, (ours, theirs) = seen.masks.agreement, (seen.masks.target, seen.masks.reference)
    worst = int(np.argmin(agreement.shares))
    return VerifyResult(
        target=target.name,
        precision=manifest.artifact.precision,
        runtime=seen.runtime,
        bundle=manifest.name,
        artifact_sha256=manifest.artifact.sha256,
        artifact_bytes=manifest.artifact.bytes,
        on_device=target.executes_here,
        reference=seen.reference,
        images=len(agreement.shares),
        gate=gate,
        agreement=agreement.mean,
        worst_agreement=agreement.shares[worst],
        worst_image=worst,
        near_zero_pixels=None if agreement.float_step is None else agreement.near_zero_pixels,
        max_lsb=agreement.max_difference / seen.step,
        golden_agreement=golden.agreement.mean if golden else None,
        golden_equal=golden.agreement.equal_images if golden else None,
        golden_images=len(golden.agreement.shares) if golden else None,
        dice=ours.dice() if ours else None,
        iou=ours.iou() if ours else None,
        reference_dice=theirs.dice() if theirs else None,
        reference_iou=theirs.iou() if theirs else None,
        scales_equal=not integers.scale_offenders if integers else None,
        scales_compared=integers.scales_compared if integers else None,
        payloads_equal=not integers.payload_offenders if integers else None,
        payloads_compared=integers.payloads_compared if integers else None,
        offenders=integers.offenders if integers else (),
        absent=dict(seen.absent),
        forced_max_lsb=max((row.max_lsb for row in seen.forced.rows), default=0) if seen.forced else None,
        int8_layers=seen.census.int8_layers,
        float_layers=seen.census.float_layers,
        census=seen.census,
        layers=seen.layers,
        other_models=seen.other_models,
        passed=not reasons,
        reasons=reasons,
    )


def _logits_step(graph: CanonicalGraph) -> float:
    """The step of the quantized logits: the scale of the last Q/DQ pair."""
    codes = graph.quantized(graph.outputs[0])
    if codes is None:
        raise GraphError(f"output {graph.outputs[0]!r}: expected a DequantizeLinear in front of it; export it again")
    return float(graph.activations[codes].scale.reshape(-1)[0])


def _compare_masks(
    bundle: Bundle, session: Session, reference: Session, frames: NDArray[np.uint8],
    truths: NDArray[np.uint8] | None, float_step: float | None,
) -> _Masks:  # fmt: skip
    preprocess, classes = bundle.manifest.preprocess, bundle.manifest.classes
    agreement = _Agreement(float_step)
    scores = [Confusion(len(classes.names), classes.ignore_value) for _ in range(2)]
    for number, frame in enumerate(frames):
        expected, received = logits_of(reference, frame, preprocess), logits_of(session, frame, preprocess)
        agreement.add(expected, received)
        if truths is not None:
            scores[0].add(mask_from_logits(received)[0], truths[number])
            scores[1].add(mask_from_logits(expected)[0], truths[number])
    return _Masks(agreement, *(scores if truths is not None else (None, None)))


def _other_model(
    name: str, session: Session, bundle: Bundle, target: Target, reference: Session, frames: NDArray[np.uint8],
    truths: NDArray[np.uint8] | None, step: float, forced_frames: int,
) -> OtherModel:  # fmt: skip
    """The masks and the teacher-forced codes of one other model of the target's arithmetic."""
    masks = _compare_masks(bundle, session, reference, frames, truths, None)
    forced = _forced(target, session, reference, frames[:forced_frames], bundle.manifest.preprocess)
    return OtherModel(
        assumption=name,
        agreement=masks.agreement.mean,
        worst_agreement=min(masks.agreement.shares),
        max_lsb=masks.agreement.max_difference / step,
        dice=masks.target.dice() if masks.target else None,
        forced_max_lsb=max((row.max_lsb for row in forced.rows), default=0) if forced else None,
    )


def _compare_golden(
    bundle: Bundle, session: Session, reference: Session, float_step: float | None, gate: float
) -> _Golden | None:
    """The golden frames: both sides again, and the stored masks against the reference's, which must not have aged."""
    preprocess = bundle.manifest.preprocess
    agreement, stale, names = _Agreement(float_step), [], []
    for golden in bundle.manifest.golden:
        frame = read_frame(bundle.folder / golden.frame, preprocess.color_order)
        stored = read_mask(bundle.folder / golden.mask)
        check_frames(frame[None], stored[None], preprocess)
        expected, received = logits_of(reference, frame, preprocess), logits_of(session, frame, preprocess)
        same = float((mask_from_logits(expected)[0] == stored).mean())
        if same < gate:
            stale.append(f"{golden.mask}: only {same:.3%} of its pixels are the reference's")
        agreement.add(expected, received)
        names.append(golden.frame)
    if not names:
        return None
    return _Golden(agreement, tuple(stale), names[int(np.argmin(agreement.shares))])


def _forced(
    target: Target, session: Session, reference: Session, frames: NDArray[np.uint8], preprocess: PreprocessSpec
) -> LayerTable | None:
    """Teacher forcing, where an interpreter stands in for the runtime and both sides show their layers."""
    if target.executes_here or not isinstance(session, LayerSession) or not isinstance(reference, LayerSession):
        return None
    return compare_layers(reference, session, frames, preprocess, forced=True) if len(frames) else None


def _mask_reasons(masks: _Masks, gate: float, metric_gate: float) -> Iterator[str]:
    shares = masks.agreement.shares
    if (mean := masks.agreement.mean) < gate:
        worst = int(np.argmin(shares))
        yield f"mask agreement {mean:.4%} is below {gate:.4%} (worst: image {worst}, {shares[worst]:.4%})"
    if masks.target is None or masks.reference is None:
        return
    for name, ours, theirs in (
        ("Dice", masks.target.dice(), masks.reference.dice()),
        ("IoU", masks.target.iou(), masks.reference.iou()),
    ):
        if abs(ours - theirs) > metric_gate:
            yield f"{name} {ours:.4f} differs from the reference's {theirs:.4f} by more than {metric_gate:.4f}"


def _golden_reasons(golden: _Golden | None, gate: float) -> Iterator[str]:
    if golden is None:
        return
    yield from (f"stale golden mask {line}; export the bundle again" for line in golden.stale)
    if (mean := golden.agreement.mean) < gate:
        yield f"golden frames: agreement {mean:.4%} is below {gate:.4%} (worst: {golden.worst})"


def _integer_reasons(integers: Integers | None) -> Iterator[str]:
    if integers is None:
        return
    for kind, offenders in (("scale", integers.scale_offenders), ("payload", integers.payload_offenders)):
        if offenders:
            more = f" and {len(offenders) - 1} more" if len(offenders) > 1 else ""
            yield f"{kind} not as in the canonical graph: {offenders[0]}{more}"
    if not integers.scales_compared or not integers.payloads_compared:
        yield "no scale or no payload could be read back from the artifact"


def _forced_reasons(forced: LayerTable | None) -> Iterator[str]:
    if forced is None:
        return
    if forced.first_bad is not None:
        row = next(row for row in forced.rows if row.name == forced.first_bad)
        yield f"teacher-forced: tensor {row.name} differs by {row.max_lsb} LSB; at most {FORCED_MAX_LSB} is allowed"
    if not forced.rows:
        yield "teacher-forced: the interpreter shows no tensor of the canonical graph"


def _other_model_reasons(models: tuple[OtherModel, ...]) -> Iterator[str]:
    for model in models:
        if (model.forced_max_lsb or 0) > FORCED_MAX_LSB:
            yield (
                f"teacher-forced with {model.assumption}: {model.forced_max_lsb} LSB, at most {FORCED_MAX_LSB} allowed"
            )


def _census_reasons(artifact: Artifact, census: Census) -> Iterator[str]:
    if artifact.precision is Precision.INT8 and census.layers and not census.int8_layers:
        yield f"the artifact is INT8 but {census.source} says that none of its {census.float_layers} layers runs in it"
