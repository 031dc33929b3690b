"""The two phases: FP32 from scratch, then quantization-aware training (QAT) of the folded network."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_unet.core.errors import DataError, UsageError
from edge_unet.core.recipe import Recipe
from edge_unet.data.cache import load_resized
from edge_unet.data.datasets import Dataset
from edge_unet.models import build
from edge_unet.models.checkpoint import Checkpoint, CheckpointInfo, load_checkpoint
from edge_unet.quantization.ptq import quantize_ptq
from edge_unet.quantization.restore import restore
from edge_unet.training.batches import Batches, derived_seed
from edge_unet.training.distill import Distillation, Teacher, load_teacher
from edge_unet.training.evaluate import Segmentation
from edge_unet.training.loop import Job, Loop, TrainResult
from edge_unet.training.objective import Objective, class_weights
from edge_unet.training.optimizer import build_optimizer
from edge_unet.training.peers import Peers, join_peers
from edge_unet.training.precision import autocast_type
from edge_unet.training.pretrain import warm
from edge_unet.training.progress import NoProgress, TrainProgress, console_progress
from edge_unet.training.state import Phase, check_same_training, only_training_in, saved_state, state_path

CALIBRATION_STREAM = 1_000_000
"""Keeps the calibration choice's seed apart from those of the phases (0 and 1)."""


@dataclass(frozen=True)
class _Start:
    """The network a phase begins with, and where it came from."""

    net: nn.Module
    parent_sha256: str | None = None
    calibration_sha256: str | None = None


def train(
    recipe: Recipe,
    out: Path,
    *,
    train_data: Dataset,
    val_data: Dataset,
    resume: bool = False,
    phase: Phase = "fp32",
    init: Path | None = None,
    teacher: Path | None = None,
    progress: TrainProgress | None = None,
    device: torch.device | None = None,
    network: Callable[[Recipe], nn.Module] = build,
) -> TrainResult:
    """Run one phase and write the EMA weights that validate best to out/fp32.safetensors or out/qat.safetensors.

    "fp32" starts from random weights, or from `init`: an FP32 checkpoint, or a warm-up (pretrain.py). "qat"
    needs an FP32 checkpoint `init`, calibrates on training frames and keeps the calibrated network only where every
    epoch is clearly worse. `teacher` is a checkpoint to learn from beside the masks (recipe.distill), of any network
    with the same classes. With `resume` an unfinished phase in `out` goes on where its state was saved (or starts,
    where there is none), a finished one returns at once. Under torchrun all processes share every batch. Logs:
    out/log.jsonl, out/tensorboard. `network` makes the network of random weights: another one than the
    recipe's name builds is a float checkpoint that only its maker can read.

    Raises UsageError where `out` holds a training and `resume` is off, or where it belongs to another recipe, and
    where the teacher does not fit; DataError on classes that differ from the recipe's; EdgeUnetError where the loss
    diverges.
    """
    _check_data(recipe, train_data, val_data)
    peers = join_peers(device)
    spec = recipe.train if phase == "fp32" else recipe.quantize.qat
    taught_by = None if teacher is None else load_teacher(teacher, recipe, spec, peers.device)
    with only_training_in(out) if peers.leads else nullcontext():
        state = saved_state(out, phase, resume)
        peers.wait()  # nobody writes before everybody has looked
        frames, masks = (torch.from_numpy(array) for array in load_resized(train_data, recipe.preprocess))
        start = _first_network(recipe, phase, init, frames, network)
        if state is not None:
            path, data = state_path(out, phase), train_data.sha256
            sha256 = None if taught_by is None else taught_by.sha256
            check_same_training(path, state.position, recipe, data, start.parent_sha256, sha256)
        job = _job(recipe, phase, out, (frames, masks), train_data.sha256, val_data, start, peers)
        loop = _loop(job, start.net, taught_by, (progress or console_progress()) if peers.leads else NoProgress())
        if state is not None:
            loop.restore(state)
        elif phase == "qat" and peers.leads:
            loop.keep_start(job.validation.scores(loop.ema.net))
        return loop.run()


def train_both(
    recipe: Recipe,
    out: Path,
    *,
    train_data: Dataset,
    val_data: Dataset,
    resume: bool = False,
    init: Path | None = None,
    teacher: Path | None = None,
    progress: TrainProgress | None = None,
    device: torch.device | None = None,
) -> tuple[TrainResult, TrainResult]:
    """FP32 (from `init` where there is one), then QAT from its best weights; arguments and errors as in
    `train`. Returns both results in that order."""
    fp32 = train(
        recipe,
        out,
        train_data=train_data,
        val_data=val_data,
        resume=resume,
        init=init,
        teacher=teacher,
        progress=progress,
        device=device,
    )
    qat = train(
        recipe,
        out,
        train_data=train_data,
        val_data=val_data,
        resume=resume,
        phase="qat",
        init=fp32.checkpoint,
        teacher=teacher,
        progress=progress,
        device=device,
    )
    return fp32, qat


def _check_data(recipe: Recipe, train_data: Dataset, val_data: Dataset) -> None:
    """Raise DataError where a dataset is empty or has other classes than the recipe."""
    for data in (train_data, val_data):
        if len(data) == 0:
            raise DataError(f"{data.name}: no images; expected at least one")
        if data.classes != recipe.classes:
            raise DataError(
                f"{data.name}: classes {data.classes.names} (ignore {data.classes.ignore_value}) differ from the "
                f"recipe's {recipe.classes.names} (ignore {recipe.classes.ignore_value}); change [classes]"
            )


def _first_network(
    recipe: Recipe, phase: Phase, init: Path | None, frames: Tensor, network: Callable[[Recipe], nn.Module]
) -> _Start:
    """The network before its first step; the same one for the same arguments."""
    if init is None:
        if phase == "qat":
            raise UsageError("qat training needs the fp32 checkpoint it starts from; pass --init")
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed(recipe.seed))
            return _Start(network(recipe))
    checkpoint = load_checkpoint(init)
    if checkpoint.info.kind == "pretrain" and phase == "fp32":
        with torch.random.fork_rng():
            torch.manual_seed(derived_seed(recipe.seed))
            return _Start(warm(network(recipe), checkpoint, recipe, init), checkpoint.sha256)
    _check_parent(init, checkpoint.info, recipe, phase)
    if phase == "qat" and checkpoint.info.kind != "fp32":  # its scales are calibrated or learned already
        return _Start(restore(checkpoint), checkpoint.sha256, checkpoint.info.calibration_sha256)
    if phase == "qat":
        return _calibrated_network(recipe, checkpoint, frames)
    return _Start(restore(checkpoint), checkpoint.sha256)


def _check_parent(init: Path, parent: CheckpointInfo, recipe: Recipe, phase: Phase) -> None:
    """Raise UsageError unless `init` is of the recipe's network, input and classes, and float for the FP32 phase."""
    if parent.kind == "pretrain":
        raise UsageError(f"{init}: a warm-up, which has seen no mask; qat training starts from an fp32 checkpoint")
    if phase == "fp32" and parent.kind != "fp32":
        raise UsageError(f"{init}: a {parent.kind} checkpoint; fp32 training starts from an fp32 one")
    for section in ("model", "preprocess", "classes"):
        theirs, ours = getattr(parent.recipe, section), getattr(recipe, section)
        if theirs != ours:
            raise UsageError(
                f"{init}: its [{section}] is {theirs!r}, the recipe's {ours!r}; use its recipe or train anew"
            )


def _calibrated_network(recipe: Recipe, checkpoint: Checkpoint, frames: Tensor) -> _Start:
    """The FP32 network folded, with fake-quant whose scales are calibrated on a seeded choice of training frames."""
    count = min(recipe.quantize.calibration_images, len(frames))
    generator = torch.Generator().manual_seed(derived_seed(recipe.seed, CALIBRATION_STREAM))
    chosen = torch.randperm(len(frames), generator=generator)[:count]
    net, info = quantize_ptq(checkpoint, frames[chosen].numpy(), recipe.quantize)
    return _Start(net, checkpoint.sha256, info.calibration_sha256)


def _job(
    recipe: Recipe,
    phase: Phase,
    out: Path,
    train_arrays: tuple[Tensor, Tensor],
    data_sha256: str,
    val_data: Dataset,
    start: _Start,
    peers: Peers,
) -> Job:
    """Everything the loop needs to know."""
    spec = recipe.train if phase == "fp32" else recipe.quantize.qat
    val_frames, val_masks = (torch.from_numpy(array) for array in load_resized(val_data, recipe.preprocess))
    frames, masks = train_arrays
    number = ("fp32", "qat").index(phase)  # the warm-up has the next one (pretrain.py)
    return Job(
        recipe=recipe,
        phase=phase,
        spec=spec,
        out=out,
        batches=Batches(frames, masks, recipe, spec, number, peers.device, peers.rank, peers.world),
        validation=Segmentation(val_frames, val_masks, recipe),
        data_sha256=data_sha256,
        parent_sha256=start.parent_sha256,
        calibration_sha256=start.calibration_sha256,
        peers=peers,
        amp=autocast_type(spec.amp, peers.device, quantized=phase == "qat"),
    )


def _loop(job: Job, net: nn.Module, teacher: Teacher | None, progress: TrainProgress) -> Loop:
    """Move the network to its device and wrap it with what it minimises and its optimizer."""
    net = job.peers.place(net)
    weights = class_weights(job.recipe, job.batches.masks)
    objective = Objective(
        job.recipe,
        None if weights is None else weights.to(job.peers.device),
        None if teacher is None else Distillation(teacher, net, job.recipe, job.peers),
    )
    learning = net if objective.adapter is None else nn.ModuleList([net, objective.adapter])
    return Loop(job, net, objective, build_optimizer(learning, job.spec), progress)
