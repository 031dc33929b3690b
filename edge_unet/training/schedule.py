"""What changes while training runs: the learning rate per step, the input size per epoch."""

from __future__ import annotations

import math

from edge_unet.core.recipe import Recipe, TrainSpec

WARMUP_START = 0.01
"""The first step's share of the learning rate; 0 would waste the step."""


def learning_rate_factor(spec: TrainSpec, step: int, steps_per_epoch: int) -> float:
    """Share of `spec.learning_rate` at global `step`: linear warm-up, then a cosine to 0 over the rest of the run."""
    total = spec.epochs * steps_per_epoch
    warmup = min(round(spec.warmup_epochs * steps_per_epoch), total - 1)
    if step < warmup:
        return WARMUP_START + (1 - WARMUP_START) * step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def input_size(recipe: Recipe, spec: TrainSpec, epoch: int) -> tuple[int, int]:
    """(height, width) of the training input at `epoch`: its stage's height and the width in the recipe's aspect
    ratio, both rounded to what the network's depth divides."""
    frame, stride = recipe.preprocess, 2**recipe.model.depth
    end = 0
    for height, epochs in spec.stages:
        end += epochs
        if epoch < end:
            scaled = height * frame.width / frame.height
            return _nearest_multiple(height, stride), _nearest_multiple(scaled, stride)
    return frame.height, frame.width


def training_sizes(recipe: Recipe, spec: TrainSpec) -> list[tuple[int, int]]:
    """Every (height, width) that a phase trains at, in the order of its stages."""
    sizes, epoch = {}, 0
    for _, epochs in spec.stages or ((0, 1),):
        sizes[input_size(recipe, spec, epoch)] = True
        epoch += epochs
    return list(sizes)


def _nearest_multiple(value: float, of: int) -> int:
    """`value` rounded to a multiple of `of`, at least one."""
    return max(1, round(value / of)) * of
