"""`edge-unet evaluate`: Dice, IoU and boundary F1 of a bundle or a checkpoint on labelled data."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.bundle import Bundle, open_bundle
from edge_unet.core.errors import UsageError, require
from edge_unet.core.registry import lookup
from edge_unet.core.report import EvaluateResult
from edge_unet.core.spec import ClassSpec, Precision, PreprocessSpec, mask_from_logits
from edge_unet.core.subject import Subject
from edge_unet.measure.masks import predictor
from edge_unet.measure.quality import evaluate as measure_quality
from edge_unet.pipeline.frames import FrameSet, frames_from
from edge_unet.pipeline.reference import model_file
from edge_unet.targets.registry import TARGETS

Predict = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def evaluate(
    model: Path,
    data: Path,
    *,
    frames: FrameSet | None = None,
    threads: int = 1,
    say: Callable[[str], None] = print,
) -> EvaluateResult:
    """Score a bundle (its runtime), or a .safetensors checkpoint (torch), on the val split of `data`.

    Masks are compared at the network's input size. Raises UsageError or ArtifactError for a bad model, DataError for
    bad data.
    """
    model = model_file(model)
    with ExitStack() as stack:
        if model.suffix == ".safetensors":
            predict, preprocess, classes, subject = _checkpoint(model)
        else:
            bundle = open_bundle(model)
            predict, subject = _bundle(bundle, threads, stack)
            preprocess, classes = bundle.manifest.preprocess, bundle.manifest.classes
        chosen = frames or frames_from(data, preprocess, classes)
        if chosen.truths is None:
            raise UsageError(f"{data}: no masks to compare with")
        result = measure_quality(predict, chosen.frames, chosen.truths, classes, subject=subject)
    result = result.model_copy(update={"data": chosen.name})
    boundary = f", boundary F1 {result.boundary_f1:.4f}" if result.boundary_f1 is not None else ""
    name = subject.label if subject else model.name
    say(f"{name}: Dice {result.dice:.4f}, IoU {result.iou:.4f}{boundary} over {result.images} images of {chosen.name}")
    return result


def _bundle(bundle: Bundle, threads: int, stack: ExitStack) -> tuple[Predict, Subject]:
    """The bundle's own runtime as a function, and what it is."""
    artifact = bundle.manifest.artifact
    target = lookup(TARGETS, artifact.target, "target")
    session = stack.enter_context(target.open(bundle.folder, artifact, threads=threads))
    subject = Subject(
        target=artifact.target,
        precision=artifact.precision,
        runtime=session.runtime,
        bundle=bundle.manifest.name,
        artifact_sha256=artifact.sha256,
        on_device=target.executes_here,
    )
    return predictor(session, bundle.manifest.preprocess), subject


def _checkpoint(path: Path) -> tuple[Predict, PreprocessSpec, ClassSpec, Subject]:
    """A checkpoint on torch as a function: float networks in float, quantized ones with their fake-quant."""
    require("torch", "train")
    import torch

    from edge_unet.models.checkpoint import load_checkpoint
    from edge_unet.models.levels import cut_to_level, levels_of
    from edge_unet.quantization.restore import restore

    checkpoint = load_checkpoint(path)
    net = restore(checkpoint).eval()
    if names := levels_of(net):
        net = cut_to_level(net, names[-2])  # as export does
    recipe = checkpoint.info.recipe

    def predict(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        real = recipe.preprocess.normalize(frame).transpose(2, 0, 1)[None]  # (1, C, h, w)
        with torch.no_grad():
            logits = net(torch.from_numpy(np.ascontiguousarray(real)))
        return np.asarray(mask_from_logits(logits.numpy())[0])

    subject = Subject(
        target="checkpoint",
        precision=Precision.FP32 if checkpoint.info.kind == "fp32" else Precision.INT8,
        runtime=f"torch {torch.__version__}",
        bundle=recipe.name,
        artifact_sha256=checkpoint.sha256,
    )
    return predict, recipe.preprocess, recipe.classes, subject
