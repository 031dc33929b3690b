"""`edge-unet search`: the best edge_unet plan within a latency budget on this machine.

Table (predicted latency) -> trials (budget, short training, Optuna) -> finalists measured for real and trained again
with other seeds, beside the shipped plans -> the best one as a recipe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_unet.core.errors import UsageError, require
from edge_unet.core.files import require_writable
from edge_unet.core.recipe import Recipe, load_recipe
from edge_unet.core.registry import lookup
from edge_unet.core.spec import Precision
from edge_unet.pipeline.train import Overrides, apply
from edge_unet.targets.registry import TARGETS

Say = Callable[[str], None]


@dataclass(frozen=True)
class SearchOptions:
    """What the command line says."""

    budget_ms: float
    target: str = "cpu"
    recipe: Path | None = None
    data: Path | None = None
    trials: int = 30
    """Trained plans that the study shall hold in the end, whoever trains them."""
    epochs: int = 8
    """Of a short training."""
    size: int = 128
    """Input height of a short training; latency is that of the recipe's own size."""
    images: int = 400
    """Training images of a short training."""
    storage: str | None = None
    """A SQLite file or a database URL; default: study.db in `out`."""
    out: Path = Path("out/search")
    table: Path | None = None
    proxy: bool = False
    """Skip plans that NASWOT ranks lowest."""
    finalists: int = 3
    seeds: int = 3
    """How often finalists and the best shipped plan are trained anew."""
    validate: int = 8
    """Random plans that are measured beside their prediction."""
    busy: bool = False
    """Hold the budget against the processor time of a run, not the wall clock's: for a machine that does other work."""
    threads: int = 1
    seed: int = 0
    rapid: bool = False


def search(options: SearchOptions, say: Say = print) -> dict[str, Any]:
    """Run or go on with a search; writes best.toml, search.json and search.md to `out` and returns what search.json
    holds.

    Raises UsageError for a target that does not execute here, a storage of another search, sizes that no plan takes;
    MissingBackendError without torch or Optuna.
    """
    target = lookup(TARGETS, options.target, "target")
    if not target.executes_here or Precision.INT8 not in target.precisions:
        here = ", ".join(name for name, known in TARGETS.items() if known.executes_here)
        raise UsageError(f"search: target {target.name} is not timed on this machine; one of: {here}")
    if options.busy and options.threads > 1:
        raise UsageError("search: --busy counts the processor time of one thread; expected --threads 1")
    require("torch", "train")
    require("optuna", "search")
    from edge_unet.pipeline.search.run import Run

    recipe = apply(load_recipe(options.recipe) if options.recipe else Recipe(), Overrides(data=options.data))
    _check_sizes(recipe, options)
    for name in ("best.toml", "search.json", "search.md"):
        require_writable(options.out / name)
    return Run(options, recipe, target, say).run()


def _check_sizes(recipe: Recipe, options: SearchOptions) -> None:
    """Sizes that a plan of three stages takes, both the recipe's and the short training's."""
    frame = recipe.preprocess
    small = short_frame(recipe, options.size)
    for height, width, what in ((frame.height, frame.width, "[preprocess]"), (*small, "--size")):
        if height % 16 or width % 16:
            raise UsageError(f"search: {what} gives {height}x{width}; expected multiples of 16, better of 32")


def short_frame(recipe: Recipe, size: int) -> tuple[int, int]:
    """(height, width) of a short training: `size` high, of the recipe's aspect ratio, in multiples of 32."""
    frame = recipe.preprocess
    width = max(32, round(size * frame.width / frame.height / 32) * 32)
    return size, width
