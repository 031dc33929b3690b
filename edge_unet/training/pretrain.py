"""Self-supervised warm-up: paint what is hidden of a picture, before any mask is seen.

Masked image modelling as SimMIM does it (Xie et al. 2022, "SimMIM: a Simple Framework for Masked Image Modeling"):
large square patches of the input are grey, and the L1 distance counts on them alone. The network is the recipe's own
with one channel a colour in its heads, so that nothing but the heads' last convolutions is thrown away afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import PretrainSpec, Recipe
from edge_unet.core.spec import ClassSpec
from edge_unet.data.cache import load_resized
from edge_unet.data.datasets import Dataset
from edge_unet.models import build
from edge_unet.models.checkpoint import Checkpoint
from edge_unet.training.batches import Batch, Batches, derived_seed, ignore_id
from edge_unet.training.evaluate import DEEPEST
from edge_unet.training.loop import Job, Loop, TrainResult
from edge_unet.training.losses.total import Outputs, heads_of, over_heads
from edge_unet.training.objective import Goal
from edge_unet.training.optimizer import build_optimizer
from edge_unet.training.peers import join_peers
from edge_unet.training.precision import autocast_type
from edge_unet.training.progress import NoProgress, TrainProgress, console_progress
from edge_unet.training.state import check_same_training, only_training_in, saved_state, state_path

PHASE = 2
"""Number of the phase in seeds; FP32 is 0, QAT 1."""
HIDING_STREAM = 2
"""Keeps the hidden patches' seed apart from the augmentation's."""


def pretrain(
    recipe: Recipe,
    out: Path,
    *,
    pictures: Dataset,
    val_data: Dataset,
    resume: bool = False,
    progress: TrainProgress | None = None,
    device: torch.device | None = None,
) -> TrainResult:
    """Learn to paint the hidden patches of `pictures` (masks are not read) and write the EMA weights that do it best on
    the frames of `val_data` to out/pretrain.safetensors, for `train(init=…)`.

    Errors, logs and `resume` as in `train`.
    """
    peers, spec = join_peers(device), recipe.pretrain.train
    with only_training_in(out) if peers.leads else nullcontext():
        state = saved_state(out, "pretrain", resume)
        peers.wait()
        if state is not None:
            check_same_training(state_path(out, "pretrain"), state.position, recipe, pictures.sha256, None)
        frames = torch.from_numpy(load_resized(pictures, recipe.preprocess)[0])
        nothing = torch.zeros(frames.shape[:3], dtype=torch.uint8)  # (N, H, W)
        val_frames = torch.from_numpy(load_resized(val_data, recipe.preprocess)[0])
        job = Job(
            recipe=recipe,
            phase="pretrain",
            spec=spec,
            out=out,
            batches=HidingBatches(frames, nothing, recipe, spec, PHASE, peers.device, peers.rank, peers.world),
            validation=Repainted(val_frames, recipe),
            data_sha256=pictures.sha256,
            parent_sha256=None,
            calibration_sha256=None,
            peers=peers,
            amp=autocast_type(spec.amp, peers.device, quantized=False),
        )
        net = peers.place(painter(recipe))
        shown = (progress or console_progress()) if peers.leads else NoProgress()
        loop = Loop(job, net, Repainting(recipe), build_optimizer(net, spec), shown)
        if state is not None:
            loop.restore(state)
        return loop.run()


def painter(recipe: Recipe) -> nn.Module:
    """The recipe's network of random weights, with a channel a colour in its heads."""
    planes = recipe.preprocess.channels
    # One channel of logits is what two classes have, so grey pictures are painted by a binary network.
    names = tuple(f"plane {plane}" for plane in range(planes)) if planes > 1 else ("dark", "bright")
    canvas = ClassSpec(names=names, palette=((0, 0, 0),) * len(names))
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(recipe.seed))
        return build(recipe.model_copy(update={"classes": canvas}))


def warm(net: nn.Module, checkpoint: Checkpoint, recipe: Recipe, path: Path) -> nn.Module:
    """`net` of `recipe` with all that a warm-up learnt but the heads' last convolutions, which are of other channels.

    Raises UsageError where the warm-up was of another network, or of pixels read in another way.
    """
    theirs = checkpoint.info.recipe
    for section, leave in (("model", {"level"}), ("preprocess", {"height", "width"})):
        a, b = getattr(theirs, section).model_dump(exclude=leave), getattr(recipe, section).model_dump(exclude=leave)
        if a != b:
            raise UsageError(f"{path}: a warm-up of [{section}] {a}, the recipe has {b}; warm up with this recipe")
    own = net.state_dict()
    fitting = {name: value for name, value in checkpoint.state.items() if own[name].shape == value.shape}
    net.load_state_dict({**own, **fitting})
    return net


@dataclass(frozen=True)
class HidingBatches(Batches):
    """Augmented pictures with patches of mid-grey. `maps` holds the whole picture and where its error counts."""

    def batch(self, epoch: int, step: int) -> Batch:
        """This process's share of one global batch."""
        whole = super().batch(epoch, step)
        seed = derived_seed(self.recipe.seed, self.phase, epoch, step, self.rank, HIDING_STREAM)
        chance = torch.Generator().manual_seed(seed)
        hidden = hidden_patches(len(whole.x), whole.x.shape[2:], self.recipe.pretrain, chance).to(self.device)
        known = (whole.y != ignore_id(self.recipe))[:, None]  # (n, 1, h, w)
        return Batch(whole.x.masked_fill(hidden, 0.0), whole.y, {"picture": whole.x, "counted": hidden & known})


def hidden_patches(count: int, size: tuple[int, ...], spec: PretrainSpec, chance: torch.Generator) -> Tensor:
    """(count, 1, h, w) bool: which pixels of inputs of `size` (h, w) are hidden; the same share of patches in each."""
    height, width = size
    rows, columns = -(-height // spec.patch), -(-width // spec.patch)
    ranks = torch.rand(count, rows * columns, generator=chance).argsort(1).argsort(1)
    hidden = (ranks < max(1, round(spec.hidden * rows * columns))).view(count, 1, rows, columns)
    whole = hidden.repeat_interleave(spec.patch, 2).repeat_interleave(spec.patch, 3)  # (count, 1, >= h, >= w)
    return whole[:, :, :height, :width]


def repaint_error(painted: Tensor, picture: Tensor, counted: Tensor) -> Tensor:
    """Mean absolute error of `painted` against `picture` (n, C, h, w) over the pixels `counted` (n, 1, h, w) bool; a
    scalar in the pictures' unit."""
    apart = ((painted.float() - picture).abs() * counted).sum()
    return apart / (counted.sum() * picture.shape[1]).clamp(min=1)


@dataclass(frozen=True)
class Repainting(Goal):
    """L1 on what was hidden, over all heads as the recipe's loss shares it out."""

    recipe: Recipe

    def __call__(self, batch: Batch, outputs: Outputs) -> Tensor:
        """The loss of a painter's `outputs` on `batch`."""
        picture, counted = batch.maps["picture"], batch.maps["counted"]
        errors = [repaint_error(head, picture, counted) for head in heads_of(outputs)]
        return over_heads(errors, self.recipe.loss)


@dataclass(frozen=True)
class Repainted:
    """How well frames (N, H, W, C) u8 are painted; the same patches are hidden every time."""

    frames: Tensor
    recipe: Recipe

    @torch.inference_mode()
    def scores(self, net: nn.Module, batch: int = 16) -> dict[str, float]:
        """{'val_error'}: mean absolute error of hidden pixels, in grey levels of 0..255."""
        net.eval()
        device, frame = next(net.parameters()).device, self.recipe.preprocess
        chance = torch.Generator().manual_seed(derived_seed(self.recipe.seed, PHASE))
        total = 0.0
        for first in range(0, len(self.frames), batch):
            x = self.frames[first : first + batch].permute(0, 3, 1, 2).to(device).float()  # (n, C, H, W)
            x = (x - frame.mean) * frame.scale
            hidden = hidden_patches(len(x), x.shape[2:], self.recipe.pretrain, chance).to(device)
            outputs = net(x.masked_fill(hidden, 0.0))
            painted = outputs if isinstance(outputs, Tensor) else outputs[DEEPEST]
            total += float(repaint_error(painted, x, hidden)) * len(x)
        return {"val_error": total / len(self.frames) / frame.scale}

    def worth(self, scores: Mapping[str, float]) -> float:
        """The smaller the error the better."""
        return -scores["val_error"]
