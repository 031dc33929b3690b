# ruff: noqa: TID252 - the folder is copied out of the package, see __init__
"""Run the chosen engine on PNG frames of the model's input size, or time it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .cuda import Cuda
from .device import require_tensorrt, this_machine
from .golden import feed, frame_pixels, mask_of, write_png
from .latency import RAPID, Protocol, as_json, measure, summary
from .sidecar import check_sidecar, engines_folder, read_chosen
from .spec import KitError, load_kit, write_json


def arguments(line: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="infer.py", description=__doc__)
    parser.add_argument("frames", nargs="*", type=Path, help="8-bit PNG frames of the model's input size")
    parser.add_argument("--engine", type=Path, help="default: the one build.py chose")
    parser.add_argument("--out", type=Path, default=Path("masks"), help="folder for the class-id masks (PNG)")
    parser.add_argument("--bench", type=Path, metavar="JSON", help="time the engine and write every sample")
    parser.add_argument("--rapid", action="store_true", help="time 64 runs or 6 s instead of 1024 or 60 s")
    options = parser.parse_args(line)
    if not options.frames and options.bench is None:
        parser.error("give frames, or --bench FILE.json")
    return options


def run(folder: Path, options: argparse.Namespace) -> None:
    """Check that the engine belongs here, then infer and time."""
    spec = load_kit(folder)
    engine = options.engine or read_chosen(engines_folder(folder))
    require_tensorrt()
    cuda = Cuda()
    machine = this_machine(cuda)
    facts = check_sidecar(engine, machine, {graph.sha256 for graph in spec.graphs.values()})
    from .run_engine import Runner

    with Runner(engine, spec, cuda) as runner:
        for path in options.frames:
            mask = mask_of(runner.infer(feed(frame_pixels(path, spec), spec)), spec.logit_step)
            options.out.mkdir(parents=True, exist_ok=True)
            write_png(options.out / f"{path.stem}.mask.png", mask)
            print(f"{path}: {(mask > 0).mean():.1%} of the pixels are foreground")
        if options.bench is not None:
            samples = measure({"engine": runner.run}, RAPID if options.rapid else Protocol())["engine"]
            head = {"schema": 1, "engine_sha256": facts["engine_sha256"], "precision": facts["precision"]}
            write_json(options.bench, {**head, "machine": machine.as_json(), "samples": as_json(samples)})
            print(f"p90 {summary(samples)['total_ns']['p90'] / 1e6:.3f} ms over {len(samples)} runs: {options.bench}")


def main(line: list[str] | None = None, folder: Path | None = None) -> int:
    """Command line. Exit codes: 0 done, 1 failure, 2 usage, 5 something is not installed."""
    try:
        run(folder or Path(__file__).resolve().parent.parent, arguments(line))
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0
