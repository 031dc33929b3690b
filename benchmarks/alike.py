"""Train networks alike, ours and the peers: same data, recipe and steps, from random weights; then Dice on every set.

    EDGE_UNET_DATA=DIR python benchmarks/alike.py edge_unet-nano ddrnet_23_slim --runs runs/alike --out RESULT.json
    … --recipe export/recipes/alike-camvid.toml --sets camvid --runs runs/alike-camvid          # eleven classes

A run that was stopped goes on; a finished one is only evaluated. Heads of deep supervision and QAT are ours alone; the
float row is the one that compares. The setting of the optimizer is one for all and tuned for none. A name with
"-distilled" behind it is that network of ours with a teacher beside the masks (--teacher), one with "-pretrained" was
warmed up on pictures without masks (the recipe's [pretrain]): rows of their own, outside the comparison.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the peers are one package below benchmarks/

from peers.networks import PEERS, build_peer

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec, Recipe, load_recipe
from edge_unet.core.registry import lookup
from edge_unet.core.report import BenchReport, EvaluateResult, write_report
from edge_unet.core.spec import Precision, mask_from_logits
from edge_unet.core.subject import Subject
from edge_unet.data.open import open_data
from edge_unet.data.pictures import open_pictures
from edge_unet.measure.environment import read_environment
from edge_unet.measure.quality import evaluate
from edge_unet.models import PRESETS, build_whole
from edge_unet.models.checkpoint import load_checkpoint
from edge_unet.models.edge_unet import TRIED
from edge_unet.models.levels import levels_of
from edge_unet.pipeline.evaluate import evaluate as evaluate_checkpoint
from edge_unet.pipeline.frames import FrameSet, frames_from
from edge_unet.training import pretrain, train, train_both

RECIPE = Path(__file__).resolve().parent.parent / "export" / "recipes" / "alike.toml"
SETS = ("kvasir_seg", "cvc_clinicdb")
"""Whose val splits the figures are of; the kept weights are chosen on the recipe's own."""
FINEST_SHARES = (0.2, 0.3, 1.0)
"""Of the loss, for the heads of ours, finest last; coarser ones have the first."""


DISTILLED = "-distilled"
PRETRAINED = "-pretrained"
"""Behind the name of a network of ours: taught by --teacher too; warmed up first."""


def recipe_of(name: str, base: Recipe) -> Recipe:
    """The common recipe with one network in it. Raises UsageError with the nearest name."""
    if name in PEERS:
        return base.model_copy(update={"name": name, "model": ModelSpec(name=name)})
    tried = {
        f"edge_unet-{v}": ModelSpec(name="edge_unet", variant=v, depth=len(p.stages) + 1, deep=True)
        for v, p in TRIED.items()
    }
    model = lookup({**PRESETS, **tried}, name.removesuffix(DISTILLED).removesuffix(PRETRAINED), "model")
    recipe = base.model_copy(update={"name": name, "model": model})
    with torch.device("meta"):
        heads = len(levels_of(build_whole(recipe))) - 1
    shares = ((FINEST_SHARES[0],) * heads + FINEST_SHARES)[-heads:] if heads > 0 else ()
    return recipe.model_copy(update={"loss": base.loss.model_copy(update={"head_weights": shares})})


def trained(name: str, base: Recipe, out: Path, teacher: Path | None) -> dict[str, Path]:
    """Kind -> checkpoint of a finished training; goes on with one that was begun. `teacher` is for distilled ones."""
    recipe = recipe_of(name, base)
    if name.endswith(DISTILLED) and teacher is None:
        raise UsageError(f"{name}: name its teacher, --teacher runs/alike/edge_unet-small/fp32.safetensors")
    data, val = open_data(recipe, "train"), open_data(recipe, "val")
    if name in PEERS:
        made = train(
            recipe,
            out,
            train_data=data,
            val_data=val,
            resume=True,
            network=lambda r: build_peer(name, r.classes.channels),
        )
        return {"fp32": made.checkpoint}
    taught_by = teacher if name.endswith(DISTILLED) else None
    init = None
    if PRETRAINED in name:
        init = pretrain(recipe, out, pictures=open_pictures(recipe), val_data=val, resume=True).checkpoint
    results = train_both(recipe, out, train_data=data, val_data=val, resume=True, init=init, teacher=taught_by)
    return {"fp32": results[0].checkpoint, "int8": results[1].checkpoint}


def scores(name: str, checkpoint: Path, sets: Sequence[FrameSet], root: Path) -> list[EvaluateResult]:
    """One result a set."""
    if name not in PEERS:
        return [evaluate_checkpoint(checkpoint, root / s.name, frames=s) for s in sets]
    loaded = load_checkpoint(checkpoint)
    net = build_peer(name, loaded.info.recipe.classes.channels)
    net.load_state_dict(loaded.state)
    subject = Subject(
        target="checkpoint",
        precision=Precision.FP32,
        runtime=f"torch {torch.__version__}",
        bundle=name,
        artifact_sha256=loaded.sha256,
    )
    recipe = loaded.info.recipe
    predict = predict_with(net, recipe)
    found = [
        evaluate(predict, s.frames, s.truths, recipe.classes, subject=subject) for s in sets if s.truths is not None
    ]
    return [r.model_copy(update={"data": s.name}) for r, s in zip(found, sets, strict=True)]


def predict_with(net: nn.Module, recipe: Recipe) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """(H, W, C) u8 frame -> (H, W) class ids."""
    net.eval()

    def predict(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        real = recipe.preprocess.normalize(frame).transpose(2, 0, 1)[None]  # (1, C, H, W)
        with torch.inference_mode():
            return np.asarray(mask_from_logits(net(torch.from_numpy(np.ascontiguousarray(real))).numpy())[0])

    return predict


def main() -> None:
    """Train what is not trained, evaluate all, write the result file after every network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help="presets of ours and peers")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--sets", nargs="+", metavar="SET", default=SETS, help="folders below $EDGE_UNET_DATA")
    parser.add_argument("--runs", type=Path, default=Path("runs/alike"))
    parser.add_argument("--teacher", type=Path, help=f"checkpoint that names with {DISTILLED} learn from")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if "EDGE_UNET_DATA" not in os.environ:
        raise UsageError("set EDGE_UNET_DATA to the folder that holds " + " and ".join(given.sets))
    root, base = Path(os.environ["EDGE_UNET_DATA"]), load_recipe(given.recipe)
    sets = [frames_from(root / name, base.preprocess, base.classes) for name in given.sets]
    rows: list[EvaluateResult] = []
    for name in given.names:
        for checkpoint in trained(name, base, given.runs / name, given.teacher).values():
            rows += scores(name, checkpoint, sets, root)
        spec = base.train
        notes = (
            f"All from random weights, seed {base.seed}, recipe {given.recipe.name}: stages {list(spec.stages)} "
            f"(height, epochs), batch {spec.batch}, on {' and '.join(base.data.train)}.",
            f"Weights chosen on {' and '.join(base.data.val)} val, every {spec.validate_every} epochs.",
            *(
                [
                    f"Pretrained ones painted hidden patches first, {base.pretrain.train.epochs} epochs, on the same "
                    f"images and those of {', '.join(base.pretrain.images)}; no mask was read."
                ]
                if any(PRETRAINED in name for name in given.names)
                else []
            ),
            *([f"Distilled ones learn from {given.teacher.parent.name} too."] if given.teacher else []),
        )
        report = BenchReport(
            title="trained alike",
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            environment=read_environment(threads=torch.get_num_threads()),
            evaluated=tuple(rows),
            notes=notes,
        )
        write_report(given.out, report)
    print(given.out)


if __name__ == "__main__":
    main()
