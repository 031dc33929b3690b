"""How values are written: None is 'not measured', and every number has its unit."""

from __future__ import annotations

from edge_unet.core.report import NS_PER_MS, STAND_IN, BenchReport
from edge_unet.core.subject import Subject

NOT_MEASURED = "not measured"
SPACE = "\N{NO-BREAK SPACE}"
"""Between a number and its unit."""


def milliseconds(value_ns: int | None) -> str:
    """'1.05 ms': three significant digits, and no more than a microsecond."""
    if value_ns is None:
        return NOT_MEASURED
    value = value_ns / NS_PER_MS
    digits = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}{SPACE}ms"


def megabytes(value: int | None) -> str:
    """'182 MB', of 10^6 bytes."""
    return NOT_MEASURED if value is None else f"{value / 1e6:.0f}{SPACE}MB"


def share(value: float | None) -> str:
    """'99.987 %'; only an exact 1 is '100 %'."""
    if value is None:
        return NOT_MEASURED
    return f"100{SPACE}%" if value == 1 else f"{min(value * 100, 99.999):.3f}{SPACE}%"


def score(value: float | None) -> str:
    """Dice and IoU: '0.8432'."""
    return NOT_MEASURED if value is None else f"{value:.4f}"


def signed_points(value: float | None) -> str:
    """A difference of Dice or IoU in points: '-0.03'."""
    return NOT_MEASURED if value is None else f"{value * 100:+.2f}"


def yes_no(value: bool | None, unknown: str = NOT_MEASURED) -> str:
    """'yes', 'no', or what stands for None."""
    return unknown if value is None else "yes" if value else "no"


def energy(value_mj: float | None) -> str:
    """'12.3 mJ'."""
    return NOT_MEASURED if value_mj is None else f"{value_mj:.3g}{SPACE}mJ"


def plain(value: object) -> str:
    """Anything else."""
    return NOT_MEASURED if value is None else str(value)


def detail_of(subject: Subject) -> str:
    """The runtime, and for a row without its hardware the words that say so."""
    return subject.runtime if subject.on_device else f"{subject.runtime}; {STAND_IN}"


class Names:
    """What each row is called: 'cpu int8', with the bundle in front where two bundles share that."""

    def __init__(self, report: BenchReport) -> None:
        bundles: dict[str, set[str]] = {}
        evaluated = [e.subject for e in report.evaluated if e.subject is not None]
        for subject in (*report.measurements, *report.verified, *evaluated, *report.limits, *report.layer_times):
            bundles.setdefault(subject.label, set()).add(subject.bundle)
        self._shared = {label for label, names in bundles.items() if len(names) > 1}

    def of(self, subject: Subject) -> str:
        """The name of one row."""
        return f"{subject.bundle} {subject.label}" if subject.label in self._shared else subject.label
