"""`edge-unet train`: recipe and data -> fp32.safetensors and qat.safetensors, or a warm-up's pretrain.safetensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_unet.core.errors import UsageError, require
from edge_unet.core.recipe import Recipe, load_recipe
from edge_unet.core.registry import lookup

if TYPE_CHECKING:
    from edge_unet.training import TrainResult

Say = Callable[[str], None]
PHASES = ("both", "pretrain", "fp32", "qat")


@dataclass(frozen=True)
class Overrides:
    """What the command line changes in a recipe."""

    data: Path | None = None
    epochs: int | None = None
    qat_epochs: int | None = None
    model: str | None = None
    """A name of `edge-unet models`, which replaces the recipe's [model]."""


def apply(recipe: Recipe, overrides: Overrides) -> Recipe:
    """The recipe with a user's network, folder and epochs. A number of epochs replaces the recipe's stages of sizes.

    Raises UsageError for a network that no preset names, and where there is no such folder.
    """
    if overrides.model is not None:
        from edge_unet.models import PRESETS

        recipe = recipe.model_copy(update={"model": lookup(PRESETS, overrides.model, "model preset")})
    if overrides.data is not None:
        if not overrides.data.is_dir():
            raise UsageError(f"{overrides.data}: no such folder; expected one with images/ and masks/")
        folder = str(overrides.data.resolve())
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"train": (folder,), "val": ()})})
    if overrides.epochs is not None:
        shorter = {"epochs": overrides.epochs, "stages": ()}
        warmup = recipe.pretrain.model_copy(update={"train": recipe.pretrain.train.model_copy(update=shorter)})
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=shorter), "pretrain": warmup})
    if overrides.qat_epochs is not None:
        qat = recipe.quantize.qat.model_copy(update={"epochs": overrides.qat_epochs, "stages": ()})
        recipe = recipe.model_copy(update={"quantize": recipe.quantize.model_copy(update={"qat": qat})})
    return Recipe.model_validate(recipe.model_dump())


def run_training(
    recipe_path: Path | None,
    out: Path,
    overrides: Overrides,
    *,
    phase: str = "both",
    init: Path | None = None,
    teacher: Path | None = None,
    resume: bool = False,
    say: Say = print,
) -> dict[str, Any]:
    """Train one phase or both (FP32 and QAT); returns the checkpoints and what they scored.

    Raises UsageError for a wrong phase, a network that cannot be built, a loss that does not fit it, a teacher that
    does not fit, a QAT phase without a float checkpoint or a warm-up with any; DataError for bad data.
    """
    _check_phase(phase, init, teacher)
    require("torch", "train")
    from edge_unet.data.open import open_data
    from edge_unet.data.pictures import open_pictures
    from edge_unet.training import Phase, pretrain, train, train_both

    recipe = apply(load_recipe(recipe_path) if recipe_path else Recipe(), overrides)
    _check_network(recipe, say)  # before data is read or a folder is made
    train_data = open_pictures(recipe) if phase == "pretrain" else open_data(recipe, "train")
    val_data = open_data(recipe, "val")
    say(f"training on {len(train_data)} images of {train_data.name}, validating on {len(val_data)}")
    results: dict[str, TrainResult] = {}
    if phase == "pretrain":
        results[phase] = pretrain(recipe, out, pictures=train_data, val_data=val_data, resume=resume)
    elif phase == "both":
        fp32, qat = train_both(
            recipe, out, train_data=train_data, val_data=val_data, resume=resume, init=init, teacher=teacher
        )
        results = {"fp32": fp32, "qat": qat}
    else:
        kind: Phase = "qat" if phase == "qat" else "fp32"
        first = init or (out / "fp32.safetensors" if kind == "qat" else None)
        results[kind] = train(
            recipe,
            out,
            train_data=train_data,
            val_data=val_data,
            resume=resume,
            phase=kind,
            init=first,
            teacher=teacher,
        )
    return _told(results, say)


def _told(results: Mapping[str, TrainResult], say: Say) -> dict[str, Any]:
    """Phase -> where its weights are and what they scored; said too."""
    for name, result in results.items():
        scores = ", ".join(f"{key} {value:.4f}" for key, value in sorted(result.metrics.items()))
        say(f"{name}: {result.checkpoint} ({scores})")
    return {name: {"checkpoint": str(r.checkpoint), "metrics": dict(r.metrics)} for name, r in results.items()}


def _check_network(recipe: Recipe, say: Say) -> None:
    """Raise UsageError where the recipe's network cannot be built or its loss does not fit."""
    import torch

    from edge_unet.models import build
    from edge_unet.training import check_loss

    with torch.device("meta"):
        for line in check_loss(recipe, build(recipe)):
            say(line)


def _check_phase(phase: str, init: Path | None, teacher: Path | None) -> None:
    """Raise UsageError for a phase that is none, or that cannot start from `init` or learn from `teacher`."""
    if phase not in PHASES:
        raise UsageError(f"unknown phase {phase!r}; expected one of {', '.join(PHASES)}")
    if phase == "pretrain" and (init or teacher) is not None:
        raise UsageError(f"{init or teacher}: a warm-up starts from random weights and has no teacher; leave it out")
    if init is None or phase != "both":
        return
    require("torch", "train")
    from edge_unet.models.checkpoint import load_checkpoint

    if load_checkpoint(init).info.kind != "pretrain":
        raise UsageError(f"{init}: --init starts one phase; add --phase qat to quantize it, or --phase fp32 to go on")


def fine_tune(checkpoint: Path, data: Path, out: Path, *, epochs: int, say: Say = print) -> Path:
    """Go on with the QAT of a quantized checkpoint on a user's folder; returns the new checkpoint.

    An earlier, unfinished fine-tune in `out` goes on; `out` must be new for another folder.
    Raises DataError for masks of other classes than the checkpoint's.
    """
    require("torch", "train")
    from edge_unet.data.open import open_data
    from edge_unet.models.checkpoint import load_checkpoint
    from edge_unet.training import train

    recipe = apply(load_checkpoint(checkpoint).info.recipe, Overrides(data=data, qat_epochs=epochs))
    qat = recipe.quantize.qat.model_copy(update={"validate_every": 1})
    recipe = recipe.model_copy(
        update={"name": data.resolve().name, "quantize": recipe.quantize.model_copy(update={"qat": qat})}
    )
    train_data, val_data = open_data(recipe, "train"), open_data(recipe, "val")
    say(f"fine-tuning {epochs} QAT epochs on {len(train_data)} images of {train_data.name}")
    result = train(recipe, out, train_data=train_data, val_data=val_data, phase="qat", init=checkpoint, resume=True)
    say(f"{result.checkpoint}: val Dice {result.metrics.get('val_dice', float('nan')):.4f}")
    return result.checkpoint
