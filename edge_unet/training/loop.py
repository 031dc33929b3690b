"""One phase of training, resumable at any point with the same result to the last bit (same machine and threads)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from edge_unet import __version__
from edge_unet.core.errors import EdgeUnetError
from edge_unet.core.recipe import Recipe, TrainSpec
from edge_unet.models.checkpoint import CheckpointInfo, save_checkpoint
from edge_unet.training.batches import Batch, Batches, derived_seed
from edge_unet.training.ema import Ema
from edge_unet.training.evaluate import Validation
from edge_unet.training.log import RunLog
from edge_unet.training.losses.total import Outputs
from edge_unet.training.objective import Goal
from edge_unet.training.optimizer import optimizer_tensors, restore_optimizer, set_learning_rate
from edge_unet.training.peers import Peers
from edge_unet.training.progress import EpochRecord, TrainProgress
from edge_unet.training.schedule import input_size, learning_rate_factor
from edge_unet.training.state import Phase, Position, TrainingState, save_state, state_path

SAVE_EVERY_S = 300.0
"""State is saved at every epoch's end, and this often inside one: what a kill can cost at most."""
START_MARGIN = 0.005
"""Dice or mIoU by which QAT may fall below its calibrated start and still be kept."""


@dataclass(frozen=True)
class TrainResult:
    """The kept weights of a phase: the EMA that validated best."""

    checkpoint: Path
    metrics: dict[str, float]
    """{'val_dice', 'val_iou', 'epoch'} of the kept weights (of a warm-up {'val_error', 'epoch'}); epoch counts from 1,
    0 = before training. Empty in processes other than the leading one."""


@dataclass(frozen=True)
class Job:
    """What one phase trains on and where to."""

    recipe: Recipe
    phase: Phase
    spec: TrainSpec
    out: Path
    batches: Batches
    validation: Validation
    data_sha256: str
    parent_sha256: str | None
    calibration_sha256: str | None
    peers: Peers
    amp: torch.dtype | None

    @property
    def checkpoint(self) -> Path:
        """Where the kept weights go."""
        return self.out / f"{self.phase}.safetensors"


class Loop:
    """The state of a phase and the steps that change it."""

    def __init__(self, job: Job, net: nn.Module, objective: Goal, optimizer: AdamW, progress: TrainProgress) -> None:
        self.job, self.net, self.objective = job, net, objective
        self.optimizer, self.progress = optimizer, progress
        self.ema = Ema(net, job.spec.ema_decay)
        self.scaler = torch.amp.GradScaler(job.peers.device.type, enabled=job.amp is torch.float16)
        self.epoch = self.step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=job.peers.device)
        self.best_score: float | None = None
        self.metrics: dict[str, float] = {}
        self._saved_s = time.monotonic()

    def run(self) -> TrainResult:
        """Train what is left of the phase."""
        job, steps = self.job, self.job.batches.steps
        forward = job.peers.share(self.net)
        log = RunLog(job.out, job.phase, self.epoch) if job.peers.leads else None
        self.progress.start(job.phase, job.spec.epochs * steps, self.epoch * steps + self.step)
        try:
            while self.epoch < job.spec.epochs:
                record = self._run_epoch(forward)
                if log is not None:
                    log.write(record)
                self.progress.epoch(record)
                self.save()
        finally:
            self.progress.stop()
            if log is not None:
                log.close()
        job.peers.wait()
        return TrainResult(job.checkpoint, self.metrics)

    def _run_epoch(self, forward: Callable[[Tensor], Outputs]) -> EpochRecord:
        """Train to the end of the current epoch and validate where it is due; moves to the next epoch."""
        job, started = self.job, time.monotonic()
        self.net.train()
        rate = 0.0
        for batch in job.batches.epoch(self.epoch, self.step):
            rate = self._train_step(forward, batch)
            self.step += 1
            self.progress.step()
            if time.monotonic() - self._saved_s > SAVE_EVERY_S and self.step < job.batches.steps:
                self.save()
        seconds = time.monotonic() - started
        loss = self._mean_loss()
        scores = self._validate() if self._validation_is_due() else {}
        height, width = input_size(job.recipe, job.spec, self.epoch)
        record = EpochRecord(
            phase=job.phase,
            epoch=self.epoch + 1,
            epochs=job.spec.epochs,
            height=height,
            width=width,
            loss=loss,
            learning_rate=rate,
            seconds=seconds,
            **scores,
        )
        self.epoch, self.step = self.epoch + 1, 0
        self.loss_sum.zero_()
        return record

    def _train_step(self, forward: Callable[[Tensor], Outputs], batch: Batch) -> float:
        """One optimizer step; returns its learning rate."""
        job = self.job
        done = self.epoch * job.batches.steps + self.step
        rate = job.spec.learning_rate * learning_rate_factor(job.spec, done, job.batches.steps)
        set_learning_rate(self.optimizer, rate)
        # A network with dropout draws from the global generator; seeded per step, a resume draws the same.
        torch.manual_seed(derived_seed(job.recipe.seed, job.batches.phase, self.epoch, self.step, job.peers.rank, 1))
        with torch.autocast(batch.x.device.type, job.amp, enabled=job.amp is not None):
            outputs = forward(batch.x)
        loss = self.objective(batch, outputs)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.net.parameters(), job.spec.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.ema.update(done)
        self.loss_sum += loss.detach()
        return rate

    def _mean_loss(self) -> float:
        """Mean over the epoch's steps so far; raises EdgeUnetError where training has diverged."""
        loss = float(self.loss_sum) / max(1, self.step)
        if math.isfinite(loss):
            return loss
        raise EdgeUnetError(
            f"{self.job.phase} training diverged: the loss is {loss} in epoch {self.epoch + 1}; "
            f"expected a finite value; lower the learning rate ({self.job.spec.learning_rate}) or train.clip_norm"
        )

    def _validation_is_due(self) -> bool:
        """Every `validate_every` epochs and after the last; rank 0 only."""
        done = self.epoch + 1
        due = done % self.job.spec.validate_every == 0 or done == self.job.spec.epochs
        return due and self.job.peers.leads

    def _validate(self) -> dict[str, float]:
        """Score the EMA weights and keep them where they are the best so far."""
        scores = self.job.validation.scores(self.ema.net)
        self.keep_if_better(scores, self.epoch + 1)
        return scores

    def keep_start(self, scores: dict[str, float]) -> None:
        """Keep the calibrated network as what QAT must not harm: an epoch that comes within START_MARGIN replaces it.

        Differences below that are noise of a small validation set, and the trained scales are the ones to ship.
        """
        self.keep_if_better(scores, 0)
        self.best_score = self.job.validation.worth(scores) - START_MARGIN

    def keep_if_better(self, scores: dict[str, float], epoch: int) -> None:
        """Write the EMA weights as the phase's checkpoint where `scores` beat the kept ones."""
        job, score = self.job, self.job.validation.worth(scores)
        if self.best_score is not None and score <= self.best_score:
            return
        self.best_score, self.metrics = score, {**scores, "epoch": float(epoch)}
        info = CheckpointInfo(
            kind=job.phase,
            recipe=job.recipe,
            metrics=self.metrics,
            data_sha256=job.data_sha256,
            calibration_sha256=job.calibration_sha256,
            parent_sha256=job.parent_sha256,
            teacher_sha256=self.objective.teacher_sha256,
            class_weights=self.objective.recorded_weights,
            versions={"edge_unet": __version__, "torch": torch.__version__},
        )
        save_checkpoint(job.checkpoint, info, self.ema.net.state_dict())

    def save(self) -> None:
        """Write everything a resume needs. Never writes a state that has diverged."""
        self._saved_s = time.monotonic()
        self._mean_loss()
        job = self.job
        if not job.peers.leads:
            return
        position = Position(
            phase=job.phase,
            recipe=job.recipe,
            data_sha256=job.data_sha256,
            epoch=self.epoch,
            step=self.step,
            loss_sum=float(self.loss_sum),
            best_score=self.best_score,
            metrics=self.metrics,
            scaler={key: float(value) for key, value in self.scaler.state_dict().items()},
            parent_sha256=job.parent_sha256,
            teacher_sha256=self.objective.teacher_sha256,
        )
        tensors = {
            **{f"net.{name}": tensor for name, tensor in self.net.state_dict().items()},
            **{f"ema.{name}": tensor for name, tensor in self.ema.net.state_dict().items()},
            **{f"adapter.{name}": tensor for name, tensor in self.objective.adapter_state().items()},
            **{f"optimizer.{name}": tensor for name, tensor in optimizer_tensors(self.optimizer).items()},
        }
        save_state(state_path(job.out, job.phase), TrainingState(position, tensors))

    def restore(self, state: TrainingState) -> None:
        """Continue from a saved state."""
        self.net.load_state_dict(state.part("net"))
        self.ema.net.load_state_dict(state.part("ema"))
        if self.objective.adapter is not None:
            self.objective.adapter.load_state_dict(state.part("adapter"))
        restore_optimizer(self.optimizer, state.part("optimizer"))
        position = state.position
        self.epoch, self.step = position.epoch, position.step
        self.loss_sum.fill_(position.loss_sum)
        self.best_score, self.metrics = position.best_score, position.metrics
        if self.scaler.is_enabled():
            scaler = {**position.scaler, "growth_interval": int(position.scaler["growth_interval"])}
            self.scaler.load_state_dict({**scaler, "_growth_tracker": int(position.scaler["_growth_tracker"])})
