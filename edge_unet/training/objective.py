"""What one phase minimises: the loss against the truth and, with a teacher, the distance to its answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import Recipe
from edge_unet.models.levels import levels_of
from edge_unet.training.batches import Batch, ignore_id
from edge_unet.training.distill import Distillation
from edge_unet.training.losses import median_frequency, training_loss, truth_of
from edge_unet.training.losses.similarity import WEIGHTS, scale_weights
from edge_unet.training.losses.total import Outputs
from edge_unet.training.schedule import training_sizes


class Goal(ABC):
    """The scalar that a step's gradient is of, and what a checkpoint records of it."""

    @abstractmethod
    def __call__(self, batch: Batch, outputs: Outputs) -> Tensor:
        """The loss of a network's `outputs` on `batch`."""

    @property
    def adapter(self) -> nn.Module | None:
        """What learns beside the network and is not kept."""
        return None

    def adapter_state(self) -> dict[str, Tensor]:
        """Its weights; empty where there is none."""
        return {} if self.adapter is None else dict(self.adapter.state_dict())

    @property
    def teacher_sha256(self) -> str | None:
        """Of the teacher's checkpoint."""
        return None

    @property
    def recorded_weights(self) -> tuple[float, ...] | None:
        """The class weights as the checkpoint records them."""
        return None


@dataclass(frozen=True)
class Objective(Goal):
    """Masks: the scalar that a step's gradient is of."""

    recipe: Recipe
    class_weights: Tensor | None = None
    distillation: Distillation | None = None

    def __call__(self, batch: Batch, outputs: Outputs) -> Tensor:
        """The loss of a network's `outputs` on `batch`."""
        channels = self.recipe.classes.channels
        truth = truth_of(batch.y, ignore_id(self.recipe), channels, batch.maps, self.class_weights)
        loss = training_loss(outputs, truth, self.recipe.loss)
        return loss if self.distillation is None else loss + self.distillation(batch.x, outputs, truth)

    @property
    def adapter(self) -> nn.Module | None:
        """What learns beside the network and is not kept."""
        return None if self.distillation is None else self.distillation.adapter

    @property
    def teacher_sha256(self) -> str | None:
        """Of the teacher's checkpoint."""
        return None if self.distillation is None else self.distillation.teacher.sha256

    @property
    def recorded_weights(self) -> tuple[float, ...] | None:
        """The class weights as the checkpoint records them."""
        return None if self.class_weights is None else tuple(round(float(w), 6) for w in self.class_weights)


def class_weights(recipe: Recipe, masks: Tensor) -> Tensor | None:
    """The recipe's class weights on the training `masks` (N, H, W) u8; None where all classes count alike."""
    if recipe.loss.class_weights == "none":
        return None
    return median_frequency(masks, len(recipe.classes.names), ignore_id(recipe))


def check_loss(recipe: Recipe, net: nn.Module) -> list[str]:
    """Raise UsageError where the recipe's loss does not fit its training sizes or the heads of `net` (which may be on
    the meta device). Returns lines that a user should read."""
    shares = recipe.loss.head_weights
    # A pruned network keeps the recipe of the whole one; it has one head and no use for shares.
    heads = max(1, len(levels_of(net)) - 1) if shares and recipe.model.level is None else len(shares)
    if heads != len(shares):
        raise UsageError(
            f"loss.head_weights has {len(shares)} values, {recipe.model.name} has {heads} head(s)"
            f"{'' if recipe.model.deep else ' with model.deep off'}; give one for each, L1 first, or leave it out"
        )
    if not recipe.loss.terms.ms_ssim:
        return []
    both = [*training_sizes(recipe, recipe.train), *training_sizes(recipe, recipe.quantize.qat)]
    return [
        f"loss.terms.ms_ssim: {len(fitting)} of {len(WEIGHTS)} scales at {height}x{width}, weighted to a sum of 1"
        for height, width in dict.fromkeys(both)
        if len(fitting := scale_weights(height, width)) < len(WEIGHTS)
    ]
