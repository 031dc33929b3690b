"""Results that another machine measured: the JSON of devices/mac/bench_coreml.py as a report.

Nothing in the file is believed that can be checked here: which artifact it is about, its quantiles, its form.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from edge_unet.core.artifact import Census, LayerPlacement
from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import ArtifactError, UsageError, in_words
from edge_unet.core.machine import Environment
from edge_unet.core.report import BenchReport, Measurement, Schedule, percentile_ns
from edge_unet.core.spec import Frozen, Precision

GOLDEN_SHARE = 0.999
"""Below this share of equal pixels an import carries a warning: measure.verify's gate."""
WORDS = {"all": "all compute units", "cpu": "CPU", "cpu+gpu": "CPU and GPU", "cpu+ne": "CPU and Neural Engine"}


class _Golden(Frozen):
    images: int = Field(ge=1)
    equal: int = Field(ge=0)
    agreement: float = Field(ge=0, le=1)
    worst_agreement: float = Field(ge=0, le=1)
    worst_image: int = Field(ge=0)


class _Placed(Frozen):
    name: str
    op: str
    unit: str
    cost: float | None = None


class _Result(Frozen):
    bundle: str
    artifact_sha256: str
    precision: Precision
    compute_units: Literal["all", "cpu", "cpu+gpu", "cpu+ne"]
    golden: _Golden
    warmup_runs: int = Field(ge=1)
    samples_ns: tuple[int, ...] = Field(min_length=1)
    clock: str
    placement: tuple[_Placed, ...]
    quantiles_ns: Mapping[Literal["p50", "p90", "p99"], int]

    @model_validator(mode="after")
    def _quantiles_agree(self) -> _Result:
        if min(self.samples_ns) <= 0:
            raise ValueError(f"a sample of {min(self.samples_ns)} ns is no time")
        for name, stated in self.quantiles_ns.items():
            computed = percentile_ns(self.samples_ns, float(name.removeprefix("p")))
            if stated != computed:
                raise ValueError(f"{name} is {stated} but samples_ns give {computed}")
        return self


class _Machine(Frozen):
    chip: str | None
    model: str | None
    os: str
    machine: str
    kernel: str
    memory_bytes: int | None
    cores: int | None
    python: str
    packages: Mapping[str, str]


class _Power(Frozen):
    power: Literal["charging", "battery"] | None
    low_power_mode: bool | None
    cpu_speed_limit: int | None


class _File(Frozen):
    format: Literal["edge_unet bench_coreml"]
    format_version: Literal[1]
    created: str
    machine: _Machine
    before: _Power
    after: _Power
    iphone_os: str | None
    schedule: Schedule
    burst_order: tuple[str, ...]
    results: tuple[_Result, ...] = Field(min_length=1)


def read_imported(path: Path, bundle: Bundle, *more: Bundle) -> BenchReport:
    """The report of a JSON that bench_coreml.py wrote about these bundles.

    Raises UsageError where the file is none of those or holds another bundle, ArtifactError where it is damaged,
    contradicts itself, or was measured on an artifact other than the bundle's.
    """
    file = _read(path)
    bundles = (bundle, *more)
    pairs = [(result, _bundle_of(path, result, bundles)) for result in file.results]
    absent = [b for b in bundles if all(b is not found for _, found in pairs)]
    if absent:
        raise UsageError(f"{path}: holds no result of {absent[0].folder}; measure it there too, or leave it out")
    notes = [line for result, found in pairs for line in _notes(result, found)]
    return BenchReport(
        title="edge_unet bench, imported from a Mac" + (" with an iPhone" if file.iphone_os else ""),
        created=file.created,
        environment=_environment(file, pairs),
        schedule=file.schedule,
        burst_order=file.burst_order,
        measurements=tuple(_measurement(file, result, found) for result, found in pairs),
        notes=(*notes, "energy: not measured; Core ML does not tell it"),
    )


def _read(path: Path) -> _File:
    try:
        return _File.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot read the result: {error.strerror}; write one with bench_coreml.py") from error
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path}: not a result of bench_coreml.py ({error}); copy it again") from error
    except ValidationError as error:
        raise ArtifactError(
            f"{path}: not a result of bench_coreml.py, or damaged ({in_words(error)}); measure again with the "
            "bench_coreml.py of this version"
        ) from error


def _bundle_of(path: Path, result: _Result, bundles: Sequence[Bundle]) -> Bundle:
    """The bundle whose artifact was measured. Raises ArtifactError where none is, naming both hashes."""
    for bundle in bundles:
        artifact = bundle.manifest.artifact
        if artifact.sha256 == result.artifact_sha256:
            if (artifact.target, artifact.precision) != ("ios", result.precision):
                raise ArtifactError(
                    f"{path}: says ios {result.precision.value} of {bundle.folder}, which is {artifact.target} "
                    f"{artifact.precision.value}; measure again"
                )
            return bundle
    hashes = ", ".join(f"{b.folder.name} {b.manifest.artifact.sha256[:12]}" for b in bundles)
    raise ArtifactError(
        f"{path}: measured {result.bundle} {result.precision.value} with sha256 {result.artifact_sha256[:12]}, "
        f"received {hashes}; give the bundle that was copied to the Mac"
    )


def _environment(file: _File, pairs: Sequence[tuple[_Result, Bundle]]) -> Environment:
    machine = file.machine
    limits = [state.cpu_speed_limit for state in (file.before, file.after)]
    known = [limit for limit in limits if limit is not None]
    return Environment(
        device="mac",
        soc=machine.chip,
        os=machine.os if file.iphone_os is None else f"{file.iphone_os}, by way of {machine.os}",
        kernel=machine.kernel,
        machine=machine.machine,
        cpu_model=machine.model,
        cores_used=machine.cores,
        power_mode=file.before.power,
        memory_bytes=machine.memory_bytes,
        python=machine.python,
        packages=dict(machine.packages),
        throttled=any(limit < 100 for limit in known) if known else None,
        warnings=tuple(_warnings(file, pairs)),
    )


def _warnings(file: _File, pairs: Sequence[tuple[_Result, Bundle]]) -> list[str]:
    found = []
    states = (file.before, file.after)
    if any(state.power == "battery" for state in states):
        found.append("the Mac runs on battery")
    if any(state.low_power_mode for state in states):
        found.append("low power mode is on")
    if any((state.cpu_speed_limit or 100) < 100 for state in states):
        found.append(f"the CPU's speed was limited for heat ({min(s.cpu_speed_limit or 100 for s in states)} %)")
    for result, _ in pairs:
        if result.golden.agreement < GOLDEN_SHARE:
            found.append(
                f"ios {result.precision.value}: only {result.golden.agreement:.3%} of the golden masks' pixels are "
                f"the reference's (worst: image {result.golden.worst_image}, {result.golden.worst_agreement:.3%})"
            )
    return found


def _measurement(file: _File, result: _Result, bundle: Bundle) -> Measurement:
    where = "iPhone" if file.iphone_os else "Mac"
    version = file.machine.packages.get("coremltools", "of unknown version")
    return Measurement(
        target="ios",
        precision=result.precision,
        runtime=f"Core ML on {where}, {WORDS[result.compute_units]}; coremltools {version}",
        bundle=bundle.manifest.name,
        artifact_sha256=result.artifact_sha256,
        scope="model",
        warmup_runs=result.warmup_runs,
        samples_ns=result.samples_ns,
        census=_census(result, bundle),
    )


def _census(result: _Result, bundle: Bundle) -> Census:
    """The layers of the package with their arithmetic, each with the unit that Core ML's plan prefers for it."""
    census = bundle.manifest.census
    if not result.placement:
        return census
    units = {row.name: row.unit for row in result.placement}
    layers = tuple(
        LayerPlacement(
            name=layer.name,
            op=layer.op,
            precision=layer.precision,
            unit=f"{units[layer.name]}, {layer.unit}" if layer.name in units else f"{layer.unit}, not in the plan",
        )
        for layer in census.layers
    )
    return Census(layers=layers, source="MLComputePlan: the preferred unit; arithmetic from the package's structure")


def _notes(result: _Result, bundle: Bundle) -> list[str]:
    """What the Mac said that has no field of its own."""
    golden, placed = result.golden, result.placement
    label = f"{bundle.manifest.name} ios {result.precision.value}"
    counts: dict[str, int] = {}
    for row in placed:
        counts[row.unit] = counts.get(row.unit, 0) + 1
    units = ", ".join(f"{count} on {unit}" for unit, count in sorted(counts.items())) or "not told"
    return [
        f"{label}: {golden.equal} of {golden.images} golden masks equal there, {golden.agreement:.3%} of their pixels; "
        "checked by bench_coreml.py, whose word this is: no logits came back to be compared here",
        f"{label}: timed by {result.clock}; operations: {units}",
    ]
