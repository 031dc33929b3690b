"""Every network through every target: one row for a preset, a level and a target, measured or with what blocks it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from edge_unet.core.artifact import Census
from edge_unet.core.bundle import Bundle
from edge_unet.core.errors import EdgeUnetError, require
from edge_unet.core.protocols import Session, Target
from edge_unet.core.recipe import DataSpec, ModelSpec, QuantizeSpec, Recipe, TrainSpec
from edge_unet.core.report import RAPID, VerifyResult
from edge_unet.core.spec import Frozen, PreprocessSpec
from edge_unet.measure.bench import Candidate
from edge_unet.measure.bench import bench as measure
from edge_unet.measure.verify import verify_bundle
from edge_unet.pipeline.export import Prepared, prepare, write_bundle
from edge_unet.pipeline.frames import FrameSet, frames_from, scenes
from edge_unet.pipeline.prune import levels, prune_checkpoint
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.registry import TARGETS

Say = Callable[[str], None]
QUICK_SCENES = 64
Status = Literal["passed", "failed", "blocked"]


class MatrixRow(Frozen):
    """One network, cut to one level, on one target. None means not measured."""

    preset: str
    level: str
    """L1 .. Ln, mean, or '' for a network with one head."""
    target: str
    height: int
    width: int
    weights: str
    """Where the weights are from."""
    status: Status
    reason: str = ""
    """Why it failed, or which op blocks it."""
    bytes: int | None = None
    int8_layers: int | None = None
    float_layers: int | None = None
    islands: int = 0
    """Float islands that the canonical graph declares."""
    agreement: float | None = None
    max_lsb: float | None = None
    p90_ms: float | None = None
    images: int = 0


def quick_checkpoint(name: str, model: ModelSpec, room: Path, *, size: int, train_size: int) -> Path:
    """A QAT checkpoint of freshly initialised weights after one short epoch in FP32 and one in QAT on procedural
    scenes: enough for statistics, scales and masks that are not noise, not for a Dice worth telling."""
    require("torch", "train")
    from edge_unet.data.open import open_data
    from edge_unet.training import train_both

    stage = ((train_size, 1),)
    recipe = Recipe(
        name=name,
        model=model,
        preprocess=PreprocessSpec(height=size, width=size),
        data=DataSpec(scene_count=QUICK_SCENES),
        train=TrainSpec(stages=stage, batch=4, warmup_epochs=0.2, ema_decay=0.8, amp="off"),
        quantize=QuantizeSpec(
            calibration_images=32,
            qat=TrainSpec(stages=stage, batch=4, learning_rate=1e-4, warmup_epochs=0.2, ema_decay=0.8),
        ),
    )
    data = [open_data(recipe, split) for split in ("train", "val")]
    _, qat = train_both(recipe, room, train_data=data[0], val_data=data[1], progress=None)
    return qat.checkpoint


def rows_of(
    preset: str,
    checkpoint: Path,
    *,
    weights: str,
    data: Path | None = None,
    targets: Sequence[Target] = tuple(TARGETS.values()),
    images: int = 4,
    timed: bool = True,
    say: Say = print,
) -> list[MatrixRow]:
    """Rows of every level of a quantized checkpoint on every target; what cannot be done is a row with its reason."""
    names = _levels(checkpoint)
    rows: list[MatrixRow] = []
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as folder:
        room = Path(folder)
        for level in names:
            model = checkpoint
            if len(names) > 1:
                model = room / f"{level}.safetensors"
                prune_checkpoint(checkpoint, level, model)
            made = _rows_of_level(preset, level, model, room, weights, data, targets, images)
            if timed:
                made = _timed(made)
            for row, _ in made:
                say(describe(row))
            rows += [row for row, _ in made]
    return rows


def describe(row: MatrixRow) -> str:
    """One line for a reader."""
    head = f"{row.preset:<22} {row.level:<5} {row.target:<15} {row.status:<8}"
    if row.agreement is None:
        return f"{head} {row.reason}"
    p90 = "" if row.p90_ms is None else f", p90 {row.p90_ms:.2f} ms"
    return (
        f"{head} {(row.bytes or 0) / 1024:7.0f} KiB, {row.int8_layers} int8 and {row.float_layers} float layers, "
        f"agreement {100 * row.agreement:.3f} %{p90} {row.reason}"
    )


def _levels(checkpoint: Path) -> tuple[str, ...]:
    from edge_unet.models.checkpoint import load_checkpoint

    spec = load_checkpoint(checkpoint).info.recipe.model
    return levels(checkpoint) if spec.deep and spec.level is None else (spec.level or "",)


def _rows_of_level(
    preset: str,
    level: str,
    model: Path,
    room: Path,
    weights: str,
    data: Path | None,
    targets: Sequence[Target],
    images: int,
) -> list[tuple[MatrixRow, Bundle | None]]:
    """Export and verify on each target. What is the same for all of them, the canonical graph, its golden frames and
    the reference, is made once."""
    height, width = _size(model)
    common: dict[str, object] = {
        "preset": preset, "level": level, "height": height, "width": width, "weights": weights,
    }  # fmt: skip
    place = Path(tempfile.mkdtemp(dir=room))
    try:
        prepared = prepare(model, place)
        metadata = prepared.graph.metadata
        frames = frames_from(data, metadata.preprocess, metadata.classes, images, metadata.scene)
        with open_reference(prepared.canonical, prepared.precision) as reference:
            return [
                _row_of_target(common | {"target": target.name}, prepared, target, reference, frames, place)
                for target in targets
            ]
    except EdgeUnetError as error:
        return [(_blocked(common | {"target": target.name}, error), None) for target in targets]


def _row_of_target(
    common: dict[str, object], prepared: Prepared, target: Target, reference: Session, frames: FrameSet, place: Path
) -> tuple[MatrixRow, Bundle | None]:
    """Its bundle in a folder of `place`, verified."""
    try:
        bundle = write_bundle(prepared, target, place / "bundles")
        result = verify_bundle(bundle, target, reference, frames.frames, frames.truths)
    except EdgeUnetError as error:
        return _blocked(common, error), None
    return _row(common, bundle, result, len(prepared.graph.metadata.islands)), bundle


def _blocked(common: dict[str, object], error: EdgeUnetError) -> MatrixRow:
    return MatrixRow.model_validate(common | {"status": "blocked", "reason": str(error).splitlines()[0]})


def _size(model: Path) -> tuple[int, int]:
    from edge_unet.models.checkpoint import load_checkpoint

    frame = load_checkpoint(model).info.recipe.preprocess
    return frame.height, frame.width


def _row(common: dict[str, object], bundle: Bundle, result: VerifyResult, islands: int) -> MatrixRow:
    census: Census = bundle.manifest.census
    return MatrixRow.model_validate(
        common
        | {
            "status": "passed" if result.passed else "failed",
            "reason": "; ".join(result.reasons),
            "bytes": bundle.manifest.artifact.bytes,
            "int8_layers": census.int8_layers,
            "float_layers": census.float_layers,
            "islands": islands,
            "agreement": result.agreement,
            "max_lsb": result.max_lsb,
            "images": result.images,
        }
    )


def _timed(made: list[tuple[MatrixRow, Bundle | None]]) -> list[tuple[MatrixRow, Bundle | None]]:
    """With the p90 of what executes here, timed together."""
    runnable = {row.target: bundle for row, bundle in made if bundle is not None and TARGETS[row.target].executes_here}
    if not runnable:
        return made
    manifest = next(iter(runnable.values())).manifest
    frame = scenes(manifest.preprocess, manifest.scene, 1).frames[0]
    candidates = [Candidate(bundle, TARGETS[name]) for name, bundle in runnable.items()]
    report = measure(candidates, frame, schedule=RAPID, with_end_to_end=False, with_memory=False, with_limits=False)
    p90 = {m.target: m.p90_ns / 1e6 for m in report.measurements}
    return [(row.model_copy(update={"p90_ms": p90.get(row.target)}), bundle) for row, bundle in made]
