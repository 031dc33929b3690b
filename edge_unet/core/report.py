"""What was measured, as values that survive a trip through JSON: latency, agreement, Dice, and on which machine.

`None` means not measured, never 0. Raw samples are kept; every quantile is derived from them and checked on reading.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer, model_validator

from edge_unet.core.artifact import Census, Scope
from edge_unet.core.errors import ArtifactError, UsageError, in_words
from edge_unet.core.files import canonical_json, write_text
from edge_unet.core.limits import LayerTimes, LimitRow, Peaks
from edge_unet.core.machine import Environment
from edge_unet.core.spec import Frozen, Precision
from edge_unet.core.subject import Subject

STAND_IN = "semantics on ONNX Runtime / interpreter, not the device"
"""Label of every row that no hardware of the target produced."""

NS_PER_MS = 1_000_000


def percentile_ns(samples_ns: Sequence[int], percent: float) -> int:
    """Nearest-rank percentile: the smallest sample that at least `percent` % of the samples do not exceed.

    It is always a sample that occurred, nothing is interpolated. Raises ValueError without samples.
    """
    if not samples_ns:
        raise ValueError("a percentile of no samples does not exist")
    rank = max(1, math.ceil(len(samples_ns) * percent / 100))
    return sorted(samples_ns)[rank - 1]


STAGES = ("preprocess", "infer", "postprocess", "draw")
"""The stages of an end-to-end run, in order."""


class Schedule(Frozen):
    """How often and how long each subject runs; see measure.latency."""

    warmup_runs: int = Field(default=10, ge=1)
    warmup_ns: int = Field(default=1_000_000_000, ge=0)
    runs: int = Field(default=1024, ge=1)
    limit_ns: int = Field(default=60_000_000_000, ge=1)
    """A subject stops at `runs` runs or after this much time of its own, whichever comes first."""
    burst: int = Field(default=5, ge=1)
    discarded: int = Field(default=1, ge=0)
    """Runs at the head of a burst that are not counted: they refill the caches the last subject emptied."""


FULL = Schedule()
RAPID = Schedule(runs=64, limit_ns=6_000_000_000)


class StageTime(Frozen):
    """One stage of the end-to-end road."""

    p50_ns: int
    p90_ns: int


_DERIVED = ("p50_ns", "p90_ns", "p99_ns", "mean_ns")


class Measurement(Subject):
    """Latency of one subject, every sample in the order taken. JSON carries the quantiles too, checked on reading."""

    scope: Scope
    warmup_runs: int
    samples_ns: tuple[int, ...] = Field(min_length=1)
    stage_ns: Mapping[str, StageTime] | None = None
    """end_to_end: preprocess, infer, postprocess, draw."""
    peak_rss_bytes: int | None = None
    """High-water mark of a fresh process that did nothing but load and run this artifact."""
    energy_mj: float | None = None
    """Per run, millijoule."""
    energy_source: str | None = None
    census: Census | None = None

    @property
    def p50_ns(self) -> int:
        """Median."""
        return percentile_ns(self.samples_ns, 50)

    @property
    def p90_ns(self) -> int:
        """The headline."""
        return percentile_ns(self.samples_ns, 90)

    @property
    def p99_ns(self) -> int:
        """Tail."""
        return percentile_ns(self.samples_ns, 99)

    @property
    def mean_ns(self) -> int:
        """Mean, rounded."""
        return round(sum(self.samples_ns) / len(self.samples_ns))

    @property
    def runs(self) -> int:
        """Counted runs."""
        return len(self.samples_ns)

    def row(self) -> dict[str, Any]:
        """One row of `bench --json`."""
        return {
            "runtime": self.runtime,
            "precision": self.precision.value,
            "scope": self.scope,
            "p50_ns": self.p50_ns,
            "p90_ns": self.p90_ns,
            "p99_ns": self.p99_ns,
            "runs": self.runs,
            "peak_rss_bytes": self.peak_rss_bytes,
        }

    @model_serializer(mode="wrap")
    def _with_quantiles(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {**handler(self), **{name: getattr(self, name) for name in _DERIVED}}

    @model_validator(mode="wrap")
    @classmethod
    def _quantiles_agree(cls, values: Any, handler: Any) -> Any:
        stated = {k: values[k] for k in _DERIVED if k in values} if isinstance(values, dict) else {}
        made = handler({k: v for k, v in values.items() if k not in stated} if stated else values)
        for name, value in stated.items():
            if value != getattr(made, name):
                raise ValueError(f"{name} is {value} but samples_ns give {getattr(made, name)}")
        return made


class LayerRow(Frozen):
    """One quantized tensor, reference against target, over the codes."""

    name: str
    sqnr_db: float
    """Signal power over error power; infinite where all codes are equal."""
    cosine: float
    max_lsb: int
    equal: float
    """Share of equal codes."""


class LayerTable(Frozen):
    """`verify --layers`."""

    rows: tuple[LayerRow, ...]
    forced: bool
    """True: each layer was fed the reference's codes, so its row is its own error alone."""
    missing: tuple[str, ...] = ()
    """Tensors the target's runtime does not show."""
    first_bad: str | None = None
    """The first tensor in graph order that fails; None where all are good."""


class OtherModel(Frozen):
    """What a stand-in for hardware gives under another model of its arithmetic: reported, its free run not gated."""

    assumption: str
    agreement: float
    worst_agreement: float
    max_lsb: float
    dice: float | None = None
    forced_max_lsb: int | None = None


class VerifyResult(Subject):
    """Is it the same mask, are they the same integers, which layers are INT8? `passed` is False with reasons."""

    reference: str
    images: int
    artifact_bytes: int | None = None
    gate: float
    agreement: float
    """Share of pixels with the reference's class, mean over images, near-zero pixels taken out."""
    worst_agreement: float
    worst_image: int
    near_zero_pixels: int | None = None
    """float_output targets: differing pixels whose logits both lie within half a step of zero (of a tie for several
    classes). They are no error and are taken out of `agreement`. None: does not apply."""
    max_lsb: float
    """Largest logit difference in steps of the canonical logits."""
    golden_agreement: float | None = None
    golden_equal: int | None = None
    """Golden frames whose mask is equal in every pixel."""
    golden_images: int | None = None
    dice: float | None = None
    reference_dice: float | None = None
    iou: float | None = None
    reference_iou: float | None = None
    scales_equal: bool | None = None
    """None for float artifacts, which hold no scales."""
    scales_compared: int | None = None
    payloads_equal: bool | None = None
    payloads_compared: int | None = None
    offenders: tuple[str, ...] = ()
    """Every tensor whose scale, zero point or payload differs from the canonical graph."""
    absent: Mapping[str, str] = {}
    """Canonical activations the artifact holds no scale for, with the reason."""
    forced_max_lsb: int | None = None
    """Teacher-forced against the reference's codes; only where an interpreter stands in."""
    int8_layers: int
    float_layers: int
    census: Census
    layers: LayerTable | None = None
    other_models: tuple[OtherModel, ...] = ()
    passed: bool
    reasons: tuple[str, ...] = ()

    @property
    def dice_delta(self) -> float | None:
        """Target minus reference; None without truths."""
        return None if self.dice is None or self.reference_dice is None else self.dice - self.reference_dice

    @property
    def iou_delta(self) -> float | None:
        """Target minus reference; None without truths."""
        return None if self.iou is None or self.reference_iou is None else self.iou - self.reference_iou

    def row(self) -> dict[str, Any]:
        """The body of `verify --json`."""
        names = ("agreement", "max_lsb", "scales_equal", "payloads_equal", "int8_layers", "float_layers", "passed")
        return {name: getattr(self, name) for name in names}

    @model_validator(mode="after")
    def _a_failure_has_a_reason(self) -> VerifyResult:
        if self.passed == bool(self.reasons):
            raise ValueError("passed must be True exactly where there are no reasons")
        return self


class EvaluateResult(Frozen):
    """Quality against true masks, plain threshold."""

    dice: float
    iou: float
    per_class: Mapping[str, float | None]
    """Pooled IoU by class name; None where the class occurs neither in truth nor in prediction."""
    images: int
    boundary_f1: float | None = None
    boundary_tolerance_px: int | None = None
    data: str | None = None
    """Which images; their masks' boundary and difficulty are part of the figure."""
    subject: Subject | None = None
    """None where the masks came from a function. A checkpoint is a subject with target 'checkpoint'."""

    def row(self) -> dict[str, Any]:
        """The body of `evaluate --json`."""
        return {"dice": self.dice, "iou": self.iou, "per_class": dict(self.per_class), "images": self.images}


class Picture(Frozen):
    """One frame with its masks drawn over it, PNG as base64."""

    title: str
    frame_png: str
    truth_png: str | None = None
    masks_png: Mapping[str, str]
    """Row label ('cpu int8') -> the frame with that mask over it."""
    agreement: Mapping[str, float] = {}
    """Row label -> share of pixels equal to the reference's mask."""


class NotMeasured(Frozen):
    """A subject that was asked for and has no latency, and why."""

    target: str
    precision: Precision
    reason: str


class BenchReport(Frozen):
    """report.json: all that was found out about a set of artifacts on one machine."""

    schema_version: Literal[1, 2] = 2
    """2 added peaks, limits, layer_times, and the state of the machine afterwards. Files of 1 are still read."""
    title: str
    created: str | None = None
    """ISO 8601 time, given by the caller."""
    environment: Environment
    schedule: Schedule | None = None
    burst_order: tuple[str, ...] = ()
    """Row labels in the order their bursts ran: the proof that subjects were interleaved."""
    measurements: tuple[Measurement, ...] = ()
    not_measured: tuple[NotMeasured, ...] = ()
    verified: tuple[VerifyResult, ...] = ()
    evaluated: tuple[EvaluateResult, ...] = ()
    pictures: tuple[Picture, ...] = ()
    peaks: Peaks | None = None
    limits: tuple[LimitRow, ...] = ()
    layer_times: tuple[LayerTimes, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool | None:
        """All accuracy gates; None where none was run."""
        return all(v.passed for v in self.verified) if self.verified else None


def write_report(path: Path, report: BenchReport) -> None:
    """Write report.json, whole or not at all. The same report gives the same bytes."""
    write_text(path, canonical_json(report.model_dump(mode="json")))


def read_report(path: Path) -> BenchReport:
    """Read report.json. Raises UsageError where there is none, ArtifactError where it is damaged or inconsistent."""
    try:
        return BenchReport.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: cannot read the report: {error.strerror}; write one with: edge-unet bench"
        ) from error
    except (ValidationError, UnicodeDecodeError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else str(error)
        raise ArtifactError(f"{path}: damaged report ({reason}); run edge-unet bench again") from error
