"""What differs between two results besides the time: named, so that nobody blames a model for a new runtime."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edge_unet.core.machine import Environment
from edge_unet.core.report import BenchReport, Measurement, VerifyResult
from edge_unet.core.spec import Frozen

MACHINE = ("device", "soc", "machine", "cpu_model", "cores_used", "threads")
"""What makes two machines different: times of such two do not compare."""
_PLAIN = ("os", "kernel", "python", "governor", "power_mode", "amx", "vnni", "bf16", "throttled")
_CLOCK_SHARE = 0.03
_DEGREES = 5.0
_NONE = "not measured"


class Difference(Frozen):
    """One thing that is not the same."""

    what: str
    base: str
    new: str


def other_machine(base: Environment, new: Environment) -> tuple[Difference, ...]:
    """The differences that make a comparison of times meaningless; empty for the same machine."""
    return tuple(_plain(base, new, MACHINE))


def machine_changes(base: Environment, new: Environment) -> tuple[Difference, ...]:
    """Versions, clocks, heat and modes that differ, and the machine itself where it does."""
    found = [*_plain(base, new, (*MACHINE, *_PLAIN))]
    for name in sorted({*base.packages, *new.packages}):
        found += _unequal(name, base.packages.get(name, "absent"), new.packages.get(name, "absent"))
    clocks = _clock(base), _clock(new)
    if _apart(*clocks, _CLOCK_SHARE * max(filter(None, clocks), default=0.0)):
        found += _unequal("clock", *(_NONE if mhz is None else f"{mhz:.0f} MHz" for mhz in clocks))
    heats = _heat(base), _heat(new)
    if _apart(*heats, _DEGREES):
        found += _unequal("temperature", *(_NONE if heat is None else f"{heat:.0f} °C" for heat in heats))
    found += _unequal("warnings", *("; ".join(e.warnings) or "none" for e in (base, new)))
    return tuple(found)


def artifact_changes(base: BenchReport, new: BenchReport, old: Measurement, now: Measurement) -> tuple[Difference, ...]:
    """Runtime, bytes, INT8 layers and hash of one subject that differ."""
    found = [*_unequal("runtime", old.runtime, now.runtime)]
    sizes = _artifact_bytes(base, old), _artifact_bytes(new, now)
    found += _unequal("artifact bytes", *(_NONE if size is None else str(size) for size in sizes))
    layers = _layers(base, old), _layers(new, now)
    if None not in layers:
        found += _unequal("layers", *(words or _NONE for words in layers))
    found += _unequal("artifact sha256", old.artifact_sha256[:12], now.artifact_sha256[:12])
    return tuple(found)


def _unequal(what: str, base: str, new: str) -> list[Difference]:
    return [] if base == new else [Difference(what=what, base=base, new=new)]


def _plain(base: Environment, new: Environment, names: Sequence[str]) -> Iterable[Difference]:
    for name in names:
        old, now = (_NONE if (value := getattr(e, name)) is None else str(value) for e in (base, new))
        yield from _unequal(name.replace("_", " "), old, now)


def _clock(e: Environment) -> float | None:
    """After the work, where that was read: a clock at rest says little."""
    return e.after.mhz if e.after is not None and e.after.mhz is not None else e.mhz


def _heat(e: Environment) -> float | None:
    return e.before.temperature_c if e.before is not None and e.before.temperature_c is not None else e.temperature_c


def _apart(base: float | None, new: float | None, room: float) -> bool:
    """Whether two readings differ by more than `room`; one that is missing says nothing."""
    return base is not None and new is not None and abs(base - new) > room


def _verified(report: BenchReport, subject: Measurement) -> VerifyResult | None:
    same = (v for v in report.verified if v.artifact_sha256 == subject.artifact_sha256)
    return next((v for v in same if (v.target, v.precision) == (subject.target, subject.precision)), None)


def _artifact_bytes(report: BenchReport, subject: Measurement) -> int | None:
    found = _verified(report, subject)
    return None if found is None else found.artifact_bytes


def _layers(report: BenchReport, subject: Measurement) -> str | None:
    """'78 INT8, 4 float', as the session told it, else as verify did."""
    census = subject.census
    if census is None and (found := _verified(report, subject)) is not None:
        census = found.census
    return None if census is None else f"{census.int8_layers} INT8, {census.float_layers} float"
