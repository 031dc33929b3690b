"""Measure trained networks on real data: Dice in FP32 and INT8, agreement on every target, latency in one run.

    python benchmarks/trained.py runs/unetpp --levels --data DIR --out benchmarks/results/DATE-unetpp.json
    python benchmarks/trained.py runs/alone runs/distilled --data DIR --out benchmarks/results/DATE-student.json

Each folder holds fp32.safetensors and qat.safetensors as edge-unet train writes them. With --levels both are pruned to
every deep-supervision level first.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import EdgeUnetError
from edge_unet.core.registry import lookup
from edge_unet.core.report import BenchReport, EvaluateResult, VerifyResult, write_report
from edge_unet.measure.environment import read_environment
from edge_unet.models.checkpoint import load_checkpoint
from edge_unet.pipeline.bench import bench
from edge_unet.pipeline.evaluate import evaluate
from edge_unet.pipeline.export import export
from edge_unet.pipeline.frames import frames_from
from edge_unet.pipeline.prune import levels, prune_checkpoint
from edge_unet.pipeline.verify import verify
from edge_unet.targets.registry import TARGETS

TIMED = ("cpu", "android", "onnx")


@dataclass(frozen=True)
class Pair:
    """One network, or one level of it: float and quantized."""

    fp32: Path
    qat: Path


def pairs_of(run: Path, room: Path, *, by_level: bool) -> list[Pair]:
    """The checkpoints of a run, pruned to every level where asked."""
    pair = Pair(run / "fp32.safetensors", run / "qat.safetensors")
    if not by_level:
        return [pair]
    made = []
    for level in levels(pair.qat):
        pruned = Pair(room / f"{run.name}-{level}-fp32.safetensors", room / f"{run.name}-{level}-qat.safetensors")
        prune_checkpoint(pair.fp32, level, pruned.fp32)
        prune_checkpoint(pair.qat, level, pruned.qat)
        made.append(pruned)
    return made


@dataclass
class Found:
    """What was measured so far."""

    evaluated: list[EvaluateResult]
    verified: list[VerifyResult]
    timed: list[Bundle]
    notes: list[str]


def measure(pair: Pair, sets: Sequence[Path], room: Path, found: Found, targets: Sequence[str]) -> None:
    """Quality of both checkpoints on every set, then the targets: artifact, agreement and Dice on the first set, Dice
    on the others. What blocks a target is a note."""
    recipe = load_checkpoint(pair.qat).info.recipe
    opened = [frames_from(data, recipe.preprocess, recipe.classes) for data in sets]
    for model in (pair.fp32, pair.qat):
        found.evaluated += [evaluate(model, data, frames=f) for data, f in zip(sets, opened, strict=True)]
    for target in (lookup(TARGETS, name, "target") for name in targets):
        try:
            (bundle,) = export(pair.qat, (target,), room / "bundles")
            result = verify(bundle.folder, frames=opened[0])
            found.evaluated += [evaluate(bundle.folder, d, frames=f) for d, f in zip(sets[1:], opened[1:], strict=True)]
        except EdgeUnetError as error:
            found.notes.append(f"{recipe.name} {target.name} blocked: {str(error).splitlines()[0]}")
            continue
        found.verified.append(result)
        if target.name in TIMED:
            found.timed.append(bundle)


def run(
    folders: Sequence[Path],
    sets: Sequence[Path],
    out: Path,
    targets: Sequence[str],
    *,
    by_level: bool,
    rapid: bool,
    timed: bool = True,
) -> None:
    """Everything, into one result file; without latency unless `timed`."""
    found = Found([], [], [], [])
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as name:
        room = Path(name)
        for folder in folders:
            for pair in pairs_of(folder, room, by_level=by_level):
                measure(pair, sets, room, found, targets)
        report = BenchReport(title="trained", environment=read_environment(threads=1))
        if timed:
            report = bench([b.folder for b in found.timed], room / "bench.json", rapid=rapid)
    names = " and of ".join(data.name for data in sets)
    notes = (*found.notes, f"Dice: plain threshold at logit 0 or argmax, on the validation images of {names}.")
    update = {"verified": tuple(found.verified), "evaluated": tuple(found.evaluated), "notes": notes}
    write_report(out, report.model_copy(update={"title": f"trained: {', '.join(f.name for f in folders)}", **update}))
    print(out)


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="agreement is measured on the first")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--levels", action="store_true")
    parser.add_argument("--rapid", action="store_true")
    parser.add_argument("--untimed", action="store_true", help="quality and agreement only")
    given = parser.parse_args()
    run(
        given.runs,
        given.data,
        given.out,
        given.targets,
        by_level=given.levels,
        rapid=given.rapid,
        timed=not given.untimed,
    )


if __name__ == "__main__":
    main()
