"""`edge-unet compare`: two result files, or two bundles timed in turns, and the gate that CI asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge_unet.core.bundle import Bundle, open_bundle
from edge_unet.core.errors import AccuracyGateError, PerformanceGateError, UsageError
from edge_unet.core.files import canonical_json, require_writable, write_text
from edge_unet.core.registry import lookup
from edge_unet.core.report import FULL, RAPID, BenchReport, VerifyResult, read_report
from edge_unet.measure.bench import Candidate
from edge_unet.measure.compare import TOLERANCE, Comparison
from edge_unet.measure.compare import compare as compare_reports
from edge_unet.measure.compare_changes import Difference
from edge_unet.measure.compare_forms import comparison_junit, in_lines, render_comparison
from edge_unet.measure.compare_run import time_in_turns
from edge_unet.pipeline.frames import scenes
from edge_unet.pipeline.verify import verify
from edge_unet.targets.registry import TARGETS

REPEATS = 3
FORMS = {"json": "comparison.json", "markdown": "comparison.md", "junit": "comparison.junit.xml"}
Say = Callable[[str], None]


def compare(
    base: Path,
    new: Path,
    *,
    data: Path | None = None,
    tolerance: float = TOLERANCE,
    repeats: int = REPEATS,
    rapid: bool = False,
    threads: int = 1,
    any_machine: bool = False,
    out: Path | None = None,
    say: Say = print,
) -> Comparison:
    """Two bundles (folders) or two result files, whichever the paths are. The gate itself is `gate`.

    Raises UsageError for one of each.
    """
    if base.is_dir() != new.is_dir():
        folder, file = (base, new) if base.is_dir() else (new, base)
        raise UsageError(f"compare: expected two bundles or two result files, received the folder {folder} and {file}")
    if base.is_dir():
        return compare_bundles(
            base, new, data=data, tolerance=tolerance, repeats=repeats, rapid=rapid, threads=threads, out=out, say=say
        )
    return compare_files(base, new, tolerance=tolerance, any_machine=any_machine, out=out, say=say)


def compare_files(
    base: Path,
    new: Path,
    *,
    tolerance: float = TOLERANCE,
    any_machine: bool = False,
    out: Path | None = None,
    say: Say = print,
) -> Comparison:
    """Two files of bench, verify, evaluate or report. Raises UsageError where they come from different machines,
    unless `any_machine`."""
    _require_forms(out)
    found = compare_reports(read_report(base), read_report(new), tolerance=tolerance, any_machine=any_machine)
    return _told(found.model_copy(update={"base": str(base), "new": str(new)}), out, say)


def compare_bundles(
    base: Path,
    new: Path,
    *,
    data: Path | None = None,
    tolerance: float = TOLERANCE,
    repeats: int = REPEATS,
    rapid: bool = False,
    threads: int = 1,
    out: Path | None = None,
    say: Say = print,
) -> Comparison:
    """Verify both, then time both in turns. Dice is compared where `data` has masks; without it the masks are only
    held against each bundle's own reference."""
    if repeats < 1:
        raise UsageError(f"compare: expected at least 1 repeat, received {repeats}")
    bundles = open_bundle(base), open_bundle(new)
    _require_forms(out)
    old, now = (Candidate(b, lookup(TARGETS, b.manifest.artifact.target, "target")) for b in bundles)
    checked = [verify(path, data, threads=threads, say=say) for path in (base, new)]
    manifest = bundles[1].manifest
    frame = scenes(manifest.preprocess, manifest.scene, 1).frames[0]
    say(f"timing {base} and {new} in turns, {repeats} repeats on {threads} thread(s)")
    schedule = RAPID if rapid else FULL
    sides = time_in_turns(old, now, frame, repeats=repeats, schedule=schedule, threads=threads)
    before, after = (_with_checked(side, result, bundles[1]) for side, result in zip(sides, checked, strict=True))
    found = compare_reports(before, after, tolerance=tolerance, interleaved=True)
    pairs = tuple(p.model_copy(update={"changed": (*_renamed(bundles), *p.changed)}) for p in found.pairs)
    return _told(found.model_copy(update={"base": str(base), "new": str(new), "pairs": pairs}), out, say)


def gate(comparison: Comparison) -> None:
    """Raise AccuracyGateError (exit 3) where masks got worse, else PerformanceGateError (exit 4) where latency did."""
    if comparison.losses:
        raise AccuracyGateError("compare failed: " + _first([f"{x.label}: {x.reason}" for x in comparison.losses]))
    if comparison.regressions:
        slow = _first([f"{p.label}: p50 {p.p50.value:.3f}x, {p.words}" for p in comparison.regressions])
        raise PerformanceGateError(f"compare failed, more than {100 * comparison.tolerance:g} % slower: {slow}")


def _first(lines: list[str], most: int = 3) -> str:
    """The first few in one line; all of them were said before."""
    return " | ".join([*lines[:most], *([f"and {len(lines) - most} more"] if len(lines) > most else [])])


def _with_checked(side: BenchReport, result: VerifyResult, new: Bundle) -> BenchReport:
    """One side with its verification, under the name the measurements have."""
    artifact = new.manifest.artifact
    names = {"bundle": new.manifest.name, "target": artifact.target, "precision": artifact.precision}
    return side.model_copy(update={"verified": (result.model_copy(update=names),)})


def _renamed(bundles: tuple[Bundle, Bundle]) -> list[Difference]:
    """What differs between the two bundles as such."""
    found = []
    old, now = (
        {
            "name": b.manifest.name,
            "target": b.manifest.artifact.target,
            "precision": b.manifest.artifact.precision.value,
            "input": f"{b.manifest.preprocess.height}x{b.manifest.preprocess.width}",
            "canonical graph": b.manifest.artifact.parent_sha256[:12],
            **{f"lowered with {name}": version for name, version in b.manifest.artifact.toolchain.items()},
        }
        for b in bundles
    )
    for what in {**old, **now}:
        if old.get(what) != now.get(what):
            found.append(Difference(what=what, base=old.get(what, "absent"), new=now.get(what, "absent")))
    return found


def _require_forms(out: Path | None) -> None:
    """Asked before long work: can every form be written?"""
    if out is not None:
        for name in FORMS.values():
            require_writable(out / name)


def _told(comparison: Comparison, out: Path | None, say: Say) -> Comparison:
    """Say it, and write its forms into `out`."""
    for line in in_lines(comparison):
        say(line)
    if out is not None:
        write_text(out / FORMS["json"], canonical_json(comparison.row()))
        write_text(out / FORMS["markdown"], render_comparison(comparison))
        write_text(out / FORMS["junit"], comparison_junit(comparison))
    return comparison
