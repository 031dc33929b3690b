"""Verbs that measure one: verify, evaluate, bench, report, compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_unet.cli.command import Data, Device, Json, Threads, app, emit, say_to
from edge_unet.core.errors import AccuracyGateError


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

    results = [run(bundle, data, layers=layers, threads=threads, say=say_to(as_json)) for bundle in bundles]
    emit(results[0].row() if len(results) == 1 else [r.row() for r in results], as_json)
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

    emit(run(model, data, threads=threads, say=say_to(as_json)).row(), as_json)


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
    report = bench_anywhere(device, bundles, out, options, say=say_to(as_json))
    emit([m.row() for m in report.measurements], as_json)


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

    emit({name: str(path) for name, path in write_report(results, out).items()}, as_json)


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
        any_machine=any_machine, out=out, say=say_to(as_json),
    )  # fmt: skip
    emit(found.row(), as_json)
    gate(found)
