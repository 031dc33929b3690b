"""Distillation: a student also learns from the answers of a larger network, the teacher (Hinton et al. 2015).

The teacher sees the very batch that the student sees, after augmentation. Every head of the student learns from the
teacher's deepest one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import Recipe, TrainSpec
from edge_unet.models.checkpoint import Checkpoint, load_checkpoint
from edge_unet.quantization.restore import restore
from edge_unet.training.batches import derived_seed
from edge_unet.training.evaluate import DEEPEST
from edge_unet.training.losses import Truth, heads_of, over_heads
from edge_unet.training.losses.total import Outputs
from edge_unet.training.peers import Peers
from edge_unet.training.precision import autocast_type
from edge_unet.training.schedule import training_sizes
from edge_unet.training.taps import Tap, head_of

ADAPTER_STREAM = 2_000_000
"""Keeps the adapter's seed apart from those of the phases and of the calibration."""
_LEAST = 1e-6
"""Against dividing by the known pixels of an image that has none."""


class Teacher:
    """A frozen network in eval mode, float or quantized."""

    def __init__(self, checkpoint: Checkpoint, spec: TrainSpec, device: torch.device) -> None:
        self.sha256, self.device = checkpoint.sha256, device
        net = restore(checkpoint).to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.net = net
        self.amp = autocast_type(spec.amp, device, quantized=checkpoint.info.kind != "fp32")

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) real input -> (N, classes, H, W) float32 logits of its deepest head."""
        with torch.autocast(self.device.type, self.amp, enabled=self.amp is not None):
            outputs = self.net(x)
        logits: Tensor = outputs if isinstance(outputs, Tensor) else outputs[DEEPEST]
        return logits.float()


def load_teacher(path: Path, recipe: Recipe, spec: TrainSpec, device: torch.device) -> Teacher:
    """The network in a checkpoint, ready to teach `recipe` at the sizes of `spec`.

    Raises UsageError where it has other classes, reads pixels otherwise, or does not take those sizes.
    """
    checkpoint = load_checkpoint(path)
    theirs = checkpoint.info.recipe
    pairs = {"classes.names": (theirs.classes.names, recipe.classes.names)}
    for key in ("channels", "color_order", "mean", "scale"):
        pairs[f"preprocess.{key}"] = (getattr(theirs.preprocess, key), getattr(recipe.preprocess, key))
    for key, (given, wanted) in pairs.items():
        if given != wanted:
            raise UsageError(
                f"teacher {path}: its {key} is {given!r}, the student's {wanted!r}; choose one that agrees"
            )
    stride = 2**theirs.model.depth
    for height, width in training_sizes(recipe, spec):
        if height % stride or width % stride:
            raise UsageError(
                f"teacher {path}: its depth needs heights and widths in multiples of {stride}, the student trains at "
                f"{height}x{width}; change [preprocess] or the stages, or choose a teacher of less depth"
            )
    teacher = Teacher(checkpoint, spec, device)
    for height, width in training_sizes(recipe, spec):
        _try_size(teacher, path, recipe, (height, width))
    return teacher


def _try_size(teacher: Teacher, path: Path, recipe: Recipe, size: tuple[int, int]) -> None:
    """Raise UsageError where the teacher has no answer of that size: some networks know only their own."""
    expected = (1, recipe.classes.channels, *size)
    try:
        received = tuple(teacher(torch.zeros(1, recipe.preprocess.channels, *size, device=teacher.device)).shape)
        said = f"it answers with shape {received}"
    except (RuntimeError, ValueError, IndexError) as error:
        received, said = (), str(error).splitlines()[0]
    if received != expected:
        raise UsageError(
            f"teacher {path}: does not take {size[0]}x{size[1]}, a training size of the student ({said}); "
            "train at a size that the teacher knows, or choose another teacher"
        )


@dataclass(frozen=True)
class _Features:
    """What the two deepest heads read, and the 1x1 convolution from the student's channels to the teacher's."""

    student: Tap
    teacher: Tap
    adapter: nn.Conv2d
    shared: nn.Module
    """The adapter, with gradients averaged over all processes."""


class Distillation:
    """What a student pays for differing from its teacher."""

    def __init__(self, teacher: Teacher, student: nn.Module, recipe: Recipe, peers: Peers) -> None:
        self.teacher, self.recipe = teacher, recipe
        self._features = _watch(teacher.net, student, recipe, peers) if recipe.distill.features else None
        teacher.net.requires_grad_(False)

    @property
    def adapter(self) -> nn.Module | None:
        """The 1x1 convolution that learns with the student and is not kept; None without a feature term."""
        return None if self._features is None else self._features.adapter

    def __call__(self, x: Tensor, outputs: Outputs, truth: Truth) -> Tensor:
        """A scalar in float32, for the student's `outputs` on `x`, whose forward pass was the last it made."""
        spec = self.recipe.distill
        target = self.teacher(x)  # (N, C, H, W)
        total = torch.zeros((), device=x.device)
        if spec.logits:
            heads = [divergence(logits.float(), target, truth, spec.temperature) for logits in heads_of(outputs)]
            total = total + spec.logits * over_heads(heads, self.recipe.loss)
        if self._features is not None:
            seen = self._features
            adapted = seen.shared(seen.student.take().float())
            distance = feature_distance(adapted, seen.teacher.take().float(), truth.known, spec.feature_loss)
            total = total + spec.features * distance
        return total


def divergence(logits: Tensor, target: Tensor, truth: Truth, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of the teacher's softened probabilities from the student's, times temperature ** 2:
    mean over images of the mean over known pixels. Both logits (N, C, H, W); C = 1 is a Bernoulli each."""
    soft, hard = logits / temperature, target / temperature
    if logits.shape[1] == 1:
        wanted = torch.sigmoid(hard)
        entropies = [functional.binary_cross_entropy_with_logits(z, wanted, reduction="none") for z in (soft, hard)]
        values = (entropies[0] - entropies[1])[:, 0]  # (N, H, W)
    else:
        wanted = hard.log_softmax(1)
        values = (wanted.exp() * (wanted - soft.log_softmax(1))).sum(1)  # (N, H, W)
    return temperature**2 * truth.image_mean(values).mean()


def feature_distance(a: Tensor, b: Tensor, known: Tensor, kind: Literal["cosine", "l2"]) -> Tensor:
    """Mean over images of 1 - cosine, or of the mean square, between two (N, C, h, w) feature maps, place by place.

    The larger map is averaged down to the smaller. `known` (N, H, W) weighs the places by their known pixels.
    """
    height, width = (min(a.shape[axis], b.shape[axis]) for axis in (2, 3))
    a, b = (functional.adaptive_avg_pool2d(value, (height, width)) for value in (a, b))
    weights = functional.adaptive_avg_pool2d(known, (height, width))  # (N, h, w)
    apart = 1 - functional.cosine_similarity(a, b, dim=1) if kind == "cosine" else (a - b).square().mean(1)
    return ((apart * weights).sum((1, 2)) / weights.sum((1, 2)).clamp_min(_LEAST)).mean()


def _watch(teacher: nn.Module, student: nn.Module, recipe: Recipe, peers: Peers) -> _Features:
    """Taps at both heads. The adapter starts from the recipe's seed."""
    heads = [head_of(net, recipe.classes.channels) for net in (student, teacher)]
    mine, theirs = (head.weight.shape[1] for head in heads)
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(recipe.seed, ADAPTER_STREAM))
        adapter = nn.Conv2d(mine, theirs, 1, bias=False)
    adapter = adapter.to(peers.device)
    return _Features(Tap(heads[0]), Tap(heads[1]), adapter, peers.share(adapter))
