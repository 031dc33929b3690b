"""`edge-unet prune`: a network with deep supervision, cut to one of its heads; by name or by what it may cost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_unet import __version__
from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import AccuracyGateError, PerformanceGateError, UsageError, require
from edge_unet.core.files import require_writable
from edge_unet.core.registry import lookup, nearest
from edge_unet.core.report import FULL, RAPID, Schedule
from edge_unet.measure.bench import Candidate
from edge_unet.measure.bench import bench as measure
from edge_unet.pipeline.export import export
from edge_unet.pipeline.frames import FrameSet, frames_from, scenes
from edge_unet.pipeline.reference import model_file
from edge_unet.targets.registry import TARGETS

Say = Callable[[str], None]


@dataclass(frozen=True)
class LevelCost:
    """What one level was measured to cost and to give. `p90_ms` is None without a target, `dice` without data."""

    level: str
    parameters: int
    bytes: int | None
    p90_ms: float | None
    dice: float | None


def levels(checkpoint: Path) -> tuple[str, ...]:
    """The levels that a checkpoint can be pruned to: L1 .. Ln, mean. Raises UsageError where it has one head."""
    require("torch", "train")
    checkpoint = model_file(checkpoint)
    from edge_unet.models.checkpoint import load_checkpoint
    from edge_unet.models.levels import levels_of
    from edge_unet.quantization.restore import restore

    loaded = load_checkpoint(checkpoint)
    names = levels_of(restore(loaded))
    if not names:
        spec = loaded.info.recipe.model
        what = f"it is pruned to {spec.level} already" if spec.level else "it was trained with one head"
        raise UsageError(f"{checkpoint}: {spec.name} has nothing to prune, {what}; train with model.deep = true")
    return names


def prune_checkpoint(checkpoint: Path, level: str, out: Path) -> dict[str, Any]:
    """Write the checkpoint cut to `level`; returns its path, hash, level and parameters.

    What it computes is that head of the whole network to the last bit. Raises UsageError for a level that it has not.
    """
    checkpoint = model_file(checkpoint)
    names = levels(checkpoint)
    if level not in names:
        raise UsageError(f"{checkpoint}: no level {level!r}; {nearest(level, names)}")
    require_writable(out)
    import torch

    from edge_unet.models.checkpoint import load_checkpoint, save_checkpoint
    from edge_unet.models.levels import cut_to_level
    from edge_unet.quantization.restore import restore

    source = load_checkpoint(checkpoint)
    net = cut_to_level(restore(source), level)
    recipe = source.info.recipe
    model = recipe.model.model_copy(update={"level": level})
    info = source.info.model_copy(
        update={
            "recipe": recipe.model_copy(update={"model": model, "name": f"{recipe.name}-{level}"}),
            "metrics": source.info.metrics if level == names[-2] else {},  # measured on the deepest head
            "parent_sha256": source.sha256,
            "versions": {"edge_unet": __version__, "torch": torch.__version__},
        }
    )
    sha = save_checkpoint(out, info, net.state_dict())
    weights = sum(p.numel() for name, p in net.named_parameters() if p.ndim > 1)
    return {"checkpoint": str(out), "sha256": sha, "level": level, "weights": weights}


def prune_to_limits(
    checkpoint: Path,
    out: Path,
    *,
    target: str = "cpu",
    budget_ms: float | None = None,
    max_drop: float | None = None,
    data: Path | None = None,
    rapid: bool = False,
    threads: int = 1,
    say: Say = print,
) -> dict[str, Any]:
    """Measure every level on `target` and write the one that keeps the limits.

    Within `budget_ms` (p90, batch 1, model alone) the level of the highest Dice, without data the deepest; within
    `max_drop` Dice points of the best level the fastest. With both, both hold and the best Dice wins. Raises
    PerformanceGateError or AccuracyGateError where no level keeps them, UsageError where a limit cannot be measured.
    """
    if budget_ms is None and max_drop is None:
        raise UsageError("prune: expected --level, --budget or --max-drop, received none of them")
    checkpoint = model_file(checkpoint)
    names = levels(checkpoint)
    require_writable(out)
    costs = measure_levels(checkpoint, names, target=target, data=data, rapid=rapid, threads=threads, say=say)
    if max_drop is not None and any(cost.dice is None for cost in costs):
        raise UsageError("prune: --max-drop needs labelled data to measure Dice on; pass --data FOLDER")
    chosen = choose(costs, budget_ms=budget_ms, max_drop=max_drop)
    say(f"chosen: {chosen.level}")
    return prune_checkpoint(checkpoint, chosen.level, out) | {"levels": [asdict(cost) for cost in costs]}


def choose(costs: Sequence[LevelCost], *, budget_ms: float | None, max_drop: float | None) -> LevelCost:
    """The level that keeps the limits; see prune_to_limits. `costs` go from L1 to the mean."""
    fitting = list(costs)
    if budget_ms is not None:
        fitting = [c for c in fitting if c.p90_ms is not None and c.p90_ms <= budget_ms]
        if not fitting:
            fastest = min((c for c in costs if c.p90_ms is not None), key=lambda c: c.p90_ms or 0.0)
            raise PerformanceGateError(
                f"no level keeps {budget_ms:g} ms: the fastest, {fastest.level}, has p90 {fastest.p90_ms:.2f} ms; "
                "train a smaller network or raise --budget"
            )
    if max_drop is None:
        single = [c for c in fitting if c.dice is None]
        return single[-1] if single else max(fitting, key=lambda c: c.dice or 0.0)
    floor = max(c.dice or 0.0 for c in costs) - max_drop / 100
    good = [c for c in fitting if (c.dice or 0.0) >= floor]
    if not good:
        best = max(fitting, key=lambda c: c.dice or 0.0)
        raise AccuracyGateError(
            f"no level within {budget_ms:g} ms has a Dice of {floor:.4f}: the best, {best.level}, has "
            f"{best.dice:.4f}; raise --budget or --max-drop"
        )
    if budget_ms is not None:
        return max(good, key=lambda c: c.dice or 0.0)
    return min(good, key=lambda c: c.p90_ms or 0.0)


def measure_levels(
    checkpoint: Path,
    names: Sequence[str],
    *,
    target: str,
    data: Path | None,
    rapid: bool = False,
    threads: int = 1,
    say: Say = print,
) -> list[LevelCost]:
    """Prune to every level, lower each to `target`, time them interleaved and score them on the val split of `data`.

    Raises UsageError for an fp32 checkpoint (it has no integers to lower) or a target that does not execute here.
    """
    chosen = lookup(TARGETS, target, "target")
    if not chosen.executes_here:
        raise UsageError(f"prune: target {target} does not execute on this machine; measure with --target cpu or onnx")
    quiet: list[str] = []
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        made = {name: prune_checkpoint(checkpoint, name, Path(room) / f"{name}.safetensors") for name in names}
        bundles = [
            export(Path(row["checkpoint"]), (chosen,), Path(room) / "bundles", say=quiet.append)[0]
            for row in made.values()
        ]
        p90_ms = _p90_ms(bundles, RAPID if rapid else FULL, threads)
        dice = _dice(bundles, data, threads)
        costs = [
            LevelCost(name, made[name]["weights"], bundle.manifest.artifact.bytes, p90_ms[n], dice[n])
            for n, (name, bundle) in enumerate(zip(names, bundles, strict=True))
        ]
    for cost in costs:
        score = "" if cost.dice is None else f", Dice {cost.dice:.4f}"
        say(
            f"{cost.level:<5} {cost.parameters / 1e6:7.3f} M weights, {(cost.bytes or 0) / 1024:7.0f} KiB, "
            f"{target} p90 {cost.p90_ms:7.2f} ms{score}"
        )
    return costs


def _p90_ms(bundles: Sequence[Bundle], schedule: Schedule, threads: int) -> list[float]:
    """p90 of every bundle, all timed together."""
    first = bundles[0].manifest
    frame = scenes(first.preprocess, first.scene, 1).frames[0]
    candidates = [Candidate(bundle, TARGETS[bundle.manifest.artifact.target]) for bundle in bundles]
    report = measure(
        candidates,
        frame,
        schedule=schedule,
        threads=threads,
        with_end_to_end=False,
        with_memory=False,
        with_limits=False,
    )
    return [m.p90_ns / 1e6 for m in report.measurements]


def _dice(bundles: Sequence[Bundle], data: Path | None, threads: int) -> list[float | None]:
    """Dice of every bundle on the val split, None without data."""
    from edge_unet.pipeline.evaluate import evaluate

    if data is None:
        return [None] * len(bundles)
    manifest = bundles[0].manifest
    frames: FrameSet = frames_from(data, manifest.preprocess, manifest.classes)
    quiet: list[str] = []
    return [evaluate(bundle.folder, data, frames=frames, threads=threads, say=quiet.append).dice for bundle in bundles]
