"""The command line: parse, call one function of the pipeline, print. Every import of work happens inside a verb."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from edge_unet import __version__
from edge_unet.core.errors import AccuracyGateError, EdgeUnetError


class _Verbs(TyperGroup):
    """Runs a verb: a user's mistake is one clear line and an exit code of the design, a bug keeps its traceback.

    Mistakes in the arguments themselves are shown by typer, with exit code 2.
    """

    def invoke(self, ctx: Any) -> Any:  # click's Context or typer's own copy of it, by typer's version
        """The verb's result; see the class."""
        try:
            return super().invoke(ctx)
        except EdgeUnetError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)


app = typer.Typer(
    name="edge-unet",
    cls=_Verbs,
    help="U-Net segmentation trained once with quantization in the loop: one set of integers on every runtime.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder with images/ and masks/ (or train/ and val/).")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="CPU threads of the runtime.")]
Device = Annotated[str, typer.Option("--device", help="local, ssh://[user@]host[:port] or adb://SERIAL.")]
BundleArgument = Annotated[Path, typer.Argument(help="Folder written by edge-unet export.")]


def _say(as_json: bool) -> Any:
    """Where progress lines go: stdout, or stderr when stdout carries JSON."""
    return lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True)


def _emit(value: Any, as_json: bool) -> None:
    """The machine-readable last line."""
    if as_json:
        print(json.dumps(value, sort_keys=True), flush=True)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Option("--recipe", help="TOML recipe; default: the built-in one.")] = None,
    data: Data = None,
    out: Annotated[Path, typer.Option("--out", help="Run folder: checkpoints, logs, state.")] = Path("runs/train"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last saved state in --out.")] = False,
    phase: Annotated[str, typer.Option("--phase", help="both, fp32 or qat.")] = "both",
    init: Annotated[Path | None, typer.Option("--init", help="fp32 checkpoint that the phase starts from.")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Network and size (edge-unet models) in place of the recipe's [model]."),
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="Checkpoint of any network to learn from too (recipe: [distill]).")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Override the fp32 epochs.")] = None,
    qat_epochs: Annotated[int | None, typer.Option("--qat-epochs", min=1, help="Override the QAT epochs.")] = None,
    as_json: Json = False,
) -> None:
    """Train FP32, then with quantization in the loop. Runs under torchrun too."""
    from edge_unet.pipeline.train import Overrides, run_training

    overrides = Overrides(data=data, epochs=epochs, qat_epochs=qat_epochs, model=model)
    results = run_training(
        recipe, out, overrides, phase=phase, init=init, teacher=teacher, resume=resume, say=_say(as_json)
    )
    _emit(results, as_json)


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
    _emit(quantize_checkpoint(checkpoint, out, data, observer, calibration, say=_say(as_json)), as_json)


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
    from edge_unet.core.errors import UsageError
    from edge_unet.pipeline.prune import budget_in_ms, prune_checkpoint, prune_to_limits

    if level is not None and (budget is not None or max_drop is not None):
        raise UsageError("prune: expected --level or limits (--budget, --max-drop), received both")
    say = _say(as_json)
    if level is not None:
        row = prune_checkpoint(checkpoint, level, out)
    else:
        budget_ms = None if budget is None else budget_in_ms(budget)
        row = prune_to_limits(
            checkpoint, out, target=target, budget_ms=budget_ms, max_drop=max_drop, data=data, rapid=rapid,
            threads=threads, say=say,
        )  # fmt: skip
    say(f"{row['level']}: {row['weights'] / 1e6:.3f} M weights, {row['checkpoint']}")
    _emit(row, as_json)


@app.command()
def export(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="Quantized checkpoint or canonical .onnx; default: the shipped model.")
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
    say = _say(as_json)
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
    _emit(rows if target == "all" else rows[0], as_json)


@app.command()
def verify(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles to verify.")],
    data: Data = None,
    layers: Annotated[bool, typer.Option("--layers", help="Compare layer by layer, name the first bad one.")] = False,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Same mask, same scales, which layers are INT8? Exit code 3 where the gate fails."""
    from edge_unet.pipeline.verify import verify as run

    results = [run(bundle, data, layers=layers, threads=threads, say=_say(as_json)) for bundle in bundles]
    _emit(results[0].row() if len(results) == 1 else [r.row() for r in results], as_json)
    failed = [f"{path}: {'; '.join(r.reasons)}" for path, r in zip(bundles, results, strict=True) if not r.passed]
    if failed:
        raise AccuracyGateError("verify failed: " + " | ".join(failed))


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Bundle folder or .safetensors checkpoint.")],
    data: Annotated[Path, typer.Option("--data", help="Folder with images/ and masks/ (or val/).")],
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Dice, IoU per class and boundary F1 on labelled data."""
    from edge_unet.pipeline.evaluate import evaluate as run

    _emit(run(model, data, threads=threads, say=_say(as_json)).row(), as_json)


@app.command()
def bench(
    bundles: Annotated[list[Path], typer.Argument(help="Bundles to time together, interleaved.")],
    out: Annotated[Path, typer.Option("--out", help="Result file (JSON, raw samples kept).")] = Path("out/bench.json"),
    device: Device = "local",
    rapid: Annotated[bool, typer.Option("--rapid", help="64 runs or 6 s a subject instead of 1024 or 60 s.")] = False,
    threads: Threads = 1,
    limits: Annotated[bool, typer.Option("--limits/--no-limits", help="Distance to this machine's limit.")] = True,
    layers: Annotated[bool, typer.Option("--layers", help="Where the time goes, by each runtime's profiler.")] = False,
    cached_peaks: Annotated[
        bool, typer.Option("--cached-peaks", help="Take the machine's peaks from an earlier run.")
    ] = False,
    benchmark_model: Annotated[
        Path | None, typer.Option("--benchmark-model", help="LiteRT's Android binary, for adb.")
    ] = None,
    imported: Annotated[
        Path | None, typer.Option("--imported", help="JSON that bench_coreml.py wrote on a Mac about these bundles.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Latency of INT8 beside FP32 and bf16 here, end to end too; or of the model alone on a device."""
    from edge_unet.pipeline.bench_anywhere import Options, bench_anywhere

    options = Options(
        rapid=rapid, threads=threads, limits=limits, layers=layers, cached_peaks=cached_peaks,
        benchmark_model=benchmark_model, imported=imported,
    )  # fmt: skip
    report = bench_anywhere(device, bundles, out, options, say=_say(as_json))
    _emit([m.row() for m in report.measurements], as_json)


@app.command()
def report(
    results: Annotated[list[Path], typer.Argument(help="Result files of bench, verify and evaluate.")],
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder for report.html, .md, .json, .junit.xml, .csv, smaller.json, bigger.json."),
    ] = Path("out/report"),
    as_json: Json = False,
) -> None:
    """One HTML page, Markdown, JSON, JUnit, CSV and the benchmark action's two files from result files."""
    from edge_unet.pipeline.report import write_report

    _emit({name: str(path) for name, path in write_report(results, out).items()}, as_json)


@app.command()
def compare(
    base: Annotated[Path, typer.Argument(help="Bundle or result file that the new one is held against.")],
    new: Annotated[Path, typer.Argument(help="Bundle or result file.")],
    data: Data = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="Share that the median may become slower; 0.05 is 5 %.")
    ] = 0.05,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="Interleaved rounds over two bundles.")] = 3,
    rapid: Annotated[bool, typer.Option("--rapid", help="64 runs or 6 s a round instead of 1024 or 60 s.")] = False,
    threads: Threads = 1,
    any_machine: Annotated[bool, typer.Option("--any-machine", help="Result files of different machines too.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for comparison.json, .md and .junit.xml.")] = None,
    as_json: Json = False,
) -> None:
    """Is it slower or worse than before? Bundles are timed in turns. Exit code 3: worse masks, 4: slower."""
    from edge_unet.pipeline.compare import compare as run
    from edge_unet.pipeline.compare import gate

    found = run(
        base, new, data=data, tolerance=tolerance, repeats=repeats, rapid=rapid, threads=threads,
        any_machine=any_machine, out=out, say=_say(as_json),
    )  # fmt: skip
    _emit(found.row(), as_json)
    gate(found)


@app.command()
def camera(
    bundle: BundleArgument,
    source: Annotated[str, typer.Option(help="0, v4l2:///dev/video0, file://PATH, rtsp://…, csi://0.")] = "0",
    sink: Annotated[str, typer.Option(help="window, file://PATH or none.")] = "window",
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Stop after this many frames.")] = None,
    alpha: Annotated[float, typer.Option(min=0, max=1, help="Opacity of the mask.")] = 0.45,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Segment a camera or a video live, with overlay, latency and FPS."""
    from edge_unet.pipeline.camera import run_camera

    _emit(run_camera(bundle, source, sink, frames=frames, alpha=alpha, threads=threads, say=_say(as_json)), as_json)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for bundles, results and the report.")] = Path("out/demo"),
    data: Data = None,
    threads: Threads = 1,
    as_json: Json = False,
) -> None:
    """Shipped model -> every target -> verify -> bench -> report; with --data a short QAT fine-tune first."""
    from edge_unet.pipeline.demo import demo as run

    _emit(run(out, data, threads=threads, say=_say(as_json)), as_json)


@app.command()
def models(as_json: Json = False) -> None:
    """The networks a recipe can name: parameters, MACs and activation memory at 256x256, heads, INT8 per target."""
    from edge_unet.pipeline.models import describe, list_models

    rows = []
    for row in list_models():
        rows.append(row)
        if not as_json:
            print(describe(row), flush=True)
    _emit(rows, as_json)


@app.command()
def devices(
    reach: Annotated[bool, typer.Option("--reach", help="Connect to every ssh host too.")] = False,
    as_json: Json = False,
) -> None:
    """This machine, the hosts of ~/.ssh/config, the phones that adb sees."""
    from edge_unet.pipeline.devices import list_devices

    rows = list_devices(reach=reach)
    for row in rows if not as_json else ():
        print(f"{row['name']:<24} {row['state']:<12} {row['detail']}")
    _emit(rows, as_json)


@app.command()
def doctor(device: Device = "local", as_json: Json = False) -> None:
    """What is installed, what each target can do here, and what this CPU has; or what a device is."""
    from edge_unet.pipeline.doctor import examine

    rows = examine(device)
    for row in rows if not as_json else ():
        print(f"{row['name']:<16} {row['state']:<10} {row['detail']}")
    _emit(rows, as_json)


def main() -> None:
    """Entry point of the command edge-unet."""
    app()


if __name__ == "__main__":
    main()
