"""Verbs that make a model: train, quantize, prune, export, search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_unet.cli.command import Data, Json, Threads, app, emit, say_to


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Option("--recipe", help="TOML recipe; default: the built-in one.")] = None,
    data: Data = None,
    out: Annotated[Path, typer.Option("--out", help="Run folder: checkpoints, logs, state.")] = Path("runs/train"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last saved state in --out.")] = False,
    phase: Annotated[
        str, typer.Option("--phase", help="both (fp32, then qat), fp32, qat, or pretrain (pictures without masks).")
    ] = "both",
    init: Annotated[
        Path | None, typer.Option("--init", help="Checkpoint that the phase starts from: fp32, or a warm-up.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Network and size (edge-unet models) in place of the recipe's [model]."),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="Checkpoint of any network to learn from too (recipe: [distill]).")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Override the float phase's epochs.")] = None,
    qat_epochs: Annotated[int | None, typer.Option("--qat-epochs", min=1, help="Override the QAT epochs.")] = None,
    as_json: Json = False,
) -> None:
    """Train FP32, then with quantization in the loop. Runs under torchrun too."""
    from edge_unet.pipeline.train import Overrides, run_training

    overrides = Overrides(data=data, epochs=epochs, qat_epochs=qat_epochs, model=model)
    results = run_training(
        recipe, out, overrides, phase=phase, init=init, teacher=teacher, resume=resume, say=say_to(as_json)
    )
    emit(results, as_json)


@app.command()
def quantize(
    checkpoint: Annotated[Path, typer.Argument(help="fp32 .safetensors checkpoint.")],
    out: Annotated[Path, typer.Option("--out", help="Checkpoint to write.")] = Path("ptq.safetensors"),
    ptq: Annotated[bool, typer.Option("--ptq/--no-ptq", help="Post-training quantization.")] = True,
    data: Data = None,
    observer: Annotated[str | None, typer.Option(help="minmax, percentile, entropy or mse.")] = None,
    calibration: Annotated[Path | None, typer.Option(help="Calibration set manifest (TOML).")] = None,
    as_json: Json = False,
) -> None:
    """Calibrate an fp32 checkpoint without training (QAT: edge-unet train)."""
    from edge_unet.pipeline.quantize import quantize_checkpoint

    if not ptq:
        raise typer.BadParameter("quantization-aware training is: edge-unet train --phase qat --init CHECKPOINT")
    emit(quantize_checkpoint(checkpoint, out, data, observer, calibration, say=say_to(as_json)), as_json)


@app.command()
def prune(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint trained with deep supervision (model.deep).")],
    level: Annotated[str | None, typer.Option("--level", help="L1 (cheapest) .. Ln, or mean of all heads.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Checkpoint to write.")] = Path("pruned.safetensors"),
    budget: Annotated[str | None, typer.Option("--budget", help="p90 that a level may have, such as 10ms.")] = None,
    max_drop: Annotated[float | None, typer.Option("--max-drop", min=0, help="Dice points below the best.")] = None,
    target: Annotated[str, typer.Option("--target", help="Where levels are measured.")] = "cpu",
    data: Data = None,
    rapid: Annotated[bool, typer.Option("--rapid", help="64 runs or 6 s a level instead of 1024 or 60 s.")] = False,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Cut a network to one of its heads: the level you name, or the best one that keeps the limits."""
    from edge_unet.core.duration import parse_ms
    from edge_unet.core.errors import UsageError
    from edge_unet.pipeline.prune import prune_checkpoint, prune_to_limits

    if level is not None and (budget is not None or max_drop is not None):
        raise UsageError("prune: expected --level or limits (--budget, --max-drop), received both")
    say = say_to(as_json)
    if level is not None:
        row = prune_checkpoint(checkpoint, level, out)
    else:
        budget_ms = None if budget is None else parse_ms(budget, "--budget")
        row = prune_to_limits(
            checkpoint, out, target=target, budget_ms=budget_ms, max_drop=max_drop, data=data, rapid=rapid,
            threads=threads, say=say,
        )  # fmt: skip
    say(f"{row['level']}: {row['weights'] / 1e6:.3f} M weights, {row['checkpoint']}")
    emit(row, as_json)


@app.command()
def export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="Quantized checkpoint, canonical .onnx, or a shipped model's name (default: endoscopy)."),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", help="cpu, android, embedded-linux, ios, jetson, onnx, mcu, or all that can.")
    ] = "all",
    out: Annotated[Path, typer.Option("--out", help="Folder for the bundles.")] = Path("out/export"),
    precision: Annotated[str, typer.Option("--precision", help="int8, fp32 or fp16.")] = "int8",
    as_json: Json = False,
) -> None:
    """Lower a model to a target and write a bundle. One with several heads is exported as its deepest (see prune)."""
    from edge_unet.core.errors import UsageError
    from edge_unet.core.registry import nearest
    from edge_unet.core.spec import Precision
    from edge_unet.pipeline.export import export as run
    from edge_unet.pipeline.export import resolve_targets

    known = [p.value for p in Precision]
    if precision not in known:
        raise UsageError(f"unknown precision {precision!r}; {nearest(precision, known)}")
    say = say_to(as_json)
    bundles = run(checkpoint, resolve_targets(target), out, Precision(precision), say, leave_out=target == "all")
    rows = [
        {
            "bundle": str(b.folder),
            "artifact": str(b.artifact),
            "target": b.manifest.artifact.target,
            "precision": b.manifest.artifact.precision.value,
            "sha256": b.manifest.artifact.sha256,
            "bytes": b.manifest.artifact.bytes,
        }
        for b in bundles
    ]
    emit(rows if target == "all" else rows[0], as_json)


@app.command()
def search(
    budget: Annotated[str, typer.Option("--budget", help="p50 of the model alone at the recipe's size, such as 2ms.")],
    target: Annotated[str, typer.Option("--target", help="Where latency is measured, in INT8.")] = "cpu",
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="TOML recipe: data, frame size, augmentation.")
    ] = None,
    data: Data = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="Trained plans that the study shall hold.")] = 30,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="Of a short training.")] = 8,
    size: Annotated[int, typer.Option("--size", min=32, help="Input height of a short training.")] = 128,
    images: Annotated[int, typer.Option("--images", min=8, help="Training images of a short training, at most.")] = 400,
    storage: Annotated[
        str | None, typer.Option("--storage", help="SQLite file or database URL that machines share; default in --out.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder for best.toml, search.json, search.md.")] = Path(
        "out/search"
    ),
    table: Annotated[
        Path | None, typer.Option("--table", help="Latency table (JSON); default: in the user's cache.")
    ] = None,
    proxy: Annotated[
        bool, typer.Option("--proxy", help="Skip plans that NASWOT, a zero-cost score, ranks low.")
    ] = False,
    finalists: Annotated[int, typer.Option("--finalists", min=1, help="Plans that are trained with more seeds.")] = 3,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Other seeds for each finalist.")] = 3,
    validate: Annotated[int, typer.Option("--validate", min=0, help="Random plans to check the table on.")] = 8,
    rapid: Annotated[bool, typer.Option("--rapid", help="64 runs or 6 s a plan in the last measurement.")] = False,
    busy: Annotated[
        bool, typer.Option("--busy", help="Hold the budget against processor time: the machine does other work too.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the choices and the trainings.")] = 0,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Find the edge_unet of a latency budget on this machine. The same command goes on where it stopped."""
    from edge_unet.core.duration import parse_ms
    from edge_unet.pipeline.search import SearchOptions
    from edge_unet.pipeline.search import search as run

    options = SearchOptions(
        budget_ms=parse_ms(budget, "--budget"), target=target, recipe=recipe, data=data, trials=trials, epochs=epochs,
        size=size, images=images, storage=storage, out=out, table=table, proxy=proxy, finalists=finalists,
        seeds=seeds, validate=validate, rapid=rapid, busy=busy, seed=seed, threads=threads,
    )  # fmt: skip
    found = run(options, say=say_to(as_json))
    emit({name: found[name] for name in ("best", "outcome", "verdict", "again")}, as_json)
