"""`edge-unet demo`: the whole road on the shipped model, or on a user's folder after a short QAT fine-tune."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.bundle import open_bundle
from edge_unet.core.errors import AccuracyGateError
from edge_unet.core.report import EvaluateResult, Picture, VerifyResult
from edge_unet.measure.masks import predictor
from edge_unet.pipeline.bench import bench
from edge_unet.pipeline.evaluate import evaluate
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.pipeline.frames import FrameSet, frames_from
from edge_unet.pipeline.reference import reference_checkpoint
from edge_unet.pipeline.report import write_forms
from edge_unet.pipeline.verify import verify
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.registry import TARGETS

FINE_TUNE_EPOCHS = 3
VERIFY_IMAGES = 24
PICTURES = 3
BENCHED = ("cpu", "android", "onnx")


def demo(
    out: Path, data: Path | None = None, *, threads: int = 1, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Export to every target, verify, bench, write the report into `out`. With `data`, fine-tune on it first.

    Raises AccuracyGateError after the report is written where a target fails its gate.
    """
    started = time.monotonic()
    model = _fine_tune(out, data, say) if data is not None else reference_checkpoint()
    exported = export(model, resolve_targets("all"), out / "bundles", say=say, leave_out=True)
    bundles = {b.manifest.artifact.target: b.folder for b in exported}
    first = open_bundle(bundles["cpu"]).manifest
    frames = frames_from(data, first.preprocess, first.classes, VERIFY_IMAGES, first.scene)
    verified = [verify(folder, frames=frames, say=say) for folder in bundles.values()]
    evaluated: list[EvaluateResult] = []
    if frames.truths is not None and data is not None:
        evaluated = [evaluate(bundles[name], data, frames=frames, say=say) for name in BENCHED]
    report = bench([bundles[name] for name in BENCHED], out / "bench.json", rapid=True, threads=threads, say=say)
    notes = (f"Frames: {frames.name}.", *(() if data else ("No --data was given, so there is no Dice here.",)))
    report = report.model_copy(
        update={
            "title": f"edge_unet: {first.name} on every target",
            "verified": tuple(verified),
            "evaluated": tuple(evaluated),
            "pictures": tuple(_pictures(bundles, frames, PICTURES)),
            "notes": notes,
        }
    )
    paths = write_forms(report, out)
    say(f"{paths['html']} after {time.monotonic() - started:.0f} s")
    _raise_if_failed(verified)
    return {
        "bundles": {name: str(folder) for name, folder in bundles.items()},
        "report": {name: str(path) for name, path in paths.items()},
        "passed": True,
        "seconds": round(time.monotonic() - started, 1),
    }


def _raise_if_failed(verified: list[VerifyResult]) -> None:
    failed = [f"{v.label}: {'; '.join(v.reasons)}" for v in verified if not v.passed]
    if failed:
        raise AccuracyGateError("verify failed: " + " | ".join(failed))


def _fine_tune(out: Path, data: Path, say: Callable[[str], None]) -> Path:
    """A short QAT fine-tune of the shipped model on the user's folder: 0 is background, the other label foreground."""
    from edge_unet.pipeline.train import fine_tune

    return fine_tune(reference_checkpoint(), data, out / "train", epochs=FINE_TUNE_EPOCHS, say=say)


def _pictures(bundles: dict[str, Path], frames: FrameSet, count: int) -> list[Picture]:
    """Overlays of the first frames: truth, and the mask of every target."""
    from edge_unet.measure.report import make_picture

    opened = [open_bundle(folder) for folder in bundles.values()]
    manifest = opened[0].manifest
    shown = frames.frames[:count]
    with open_reference(opened[0].canonical) as session:
        predict = predictor(session, manifest.preprocess)
        references = [predict(frame) for frame in shown]
    masks: list[dict[str, NDArray[np.uint8]]] = [{} for _ in shown]
    for bundle in opened:
        artifact = bundle.manifest.artifact
        with TARGETS[artifact.target].open(bundle.folder, artifact) as session:
            predict = predictor(session, manifest.preprocess)
            for frame, found in zip(shown, masks, strict=True):
                found[f"{artifact.target} {artifact.precision.value}"] = predict(frame)
    return [
        make_picture(
            f"frame {number + 1}",
            shown[number],
            found,
            manifest.classes,
            manifest.preprocess,
            truth=None if frames.truths is None else frames.truths[number],
            reference=references[number],
        )
        for number, found in enumerate(masks)
    ]
