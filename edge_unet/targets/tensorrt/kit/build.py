# ruff: noqa: TID252 - the folder is copied out of the package, see __init__
"""Build the engines on this device, check their masks, time INT8 beside FP16 and keep the faster that passes."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .census import EngineLayer, counts, parse_inspector
from .cuda import Cuda
from .device import require_tensorrt, this_machine
from .golden import Agreement, GoldenFrame, compare, feed, read_golden
from .latency import RAPID, Protocol, Sample, as_json, measure, summary
from .machine import NO_INT8, Machine, board_name, buildable_bytes, jetpack_version, mem_available_bytes, plan_memory
from .sidecar import CHOSEN, engines_folder, write_sidecar
from .spec import GraphFile, KitError, KitSpec, load_kit, sha256_of, write_json
from .trtexec import build_with_trtexec, find_trtexec

AGREEMENT = {"int8": 0.999, "fp16": 0.98}
"""Smallest share of golden pixels that must agree. INT8 is held to the gate of verify. FP16 does not round as the INT8
reference does: on 28 polyp frames a Mobile U-Net's FP16 twin agreed in 99.4 % of the pixels, 98.1 % on the worst."""


@dataclass(frozen=True)
class Candidate:
    """One built engine and what was found about it. `agreement` None means not checked."""

    precision: str
    engine: Path
    layers: tuple[EngineLayer, ...]
    agreement: Agreement | None
    samples: list[Sample]

    def passes(self, smallest: float) -> bool:
        """Whether its masks agree and, for INT8, any layer runs in INT8 at all."""
        masks = self.agreement is None or self.agreement.ratio >= smallest
        return masks and (self.precision != "int8" or counts(self.layers).get("int8", 0) > 0)

    @property
    def p90_ns(self) -> int:
        """Host to host, copies included: what a camera loop waits."""
        return summary(self.samples)["total_ns"]["p90"]


def choose(candidates: list[Candidate], smallest: dict[str, float]) -> Candidate:
    """The fastest candidate that passes. Raises KitError (exit code 3) where none does."""
    passing = [c for c in candidates if c.passes(smallest[c.precision])]
    if not passing:
        found = ", ".join(f"{c.precision} {c.agreement.ratio:.4%}" for c in candidates if c.agreement)
        raise KitError(f"no engine passes: mask agreement {found}; expected {smallest}. Export the kit again", 3)
    return min(passing, key=lambda c: c.p90_ns)


def arguments(line: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="build.py", description=__doc__)
    parser.add_argument("--precision", choices=("both", "int8", "fp16"), default="both")
    parser.add_argument("--workspace", type=int, metavar="MIB", help="builder scratch memory; default: by free memory")
    parser.add_argument("--force", action="store_true", help="build although memory looks too small")
    parser.add_argument("--trtexec", nargs="?", const="", metavar="PATH", help="build with trtexec, not the Python API")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="engines go here; default: beside the kit")
    parser.add_argument("--golden", type=Path, metavar="FOLDER", help="golden frames; default: golden beside the kit")
    parser.add_argument("--no-golden", action="store_true", help="keep an engine whose masks were never checked")
    parser.add_argument("--min-agreement-int8", type=float, default=AGREEMENT["int8"])
    parser.add_argument("--min-agreement-fp16", type=float, default=AGREEMENT["fp16"])
    parser.add_argument("--optimization-level", type=int, choices=range(6), default=3)
    parser.add_argument("--rapid", action="store_true", help="time 64 runs or 6 s instead of 1024 or 60 s")
    return parser.parse_args(line)


def wanted_graphs(spec: KitSpec, precision: str, compute_capability: str) -> list[GraphFile]:
    """The graphs to build. Raises KitError where the kit or the GPU has none of that precision."""
    graphs = [g for name, g in sorted(spec.graphs.items()) if precision in ("both", name)]
    if compute_capability in NO_INT8:
        print(f"compute capability {compute_capability} ({NO_INT8[compute_capability]}) has no INT8: FP16 only")
        graphs = [g for g in graphs if g.precision != "int8"]
    if not graphs:
        raise KitError(f"no {precision} graph to build here; the kit has {', '.join(sorted(spec.graphs))}", 2)
    return graphs


def build(graph: GraphFile, out: Path, workspace_bytes: int, options: argparse.Namespace) -> tuple[Path, list[str]]:
    """(engine file, trtexec command or an empty list) of one graph."""
    engine, cache = out / f"model.{graph.precision}.engine", out / "timing.cache"
    if options.trtexec is not None:
        return engine, build_with_trtexec(find_trtexec(options.trtexec), graph, engine, workspace_bytes, cache)[1]
    from .build_engine import build_engine

    engine.write_bytes(build_engine(graph, workspace_bytes, cache, options.optimization_level))
    return engine, []


def examine(
    engines: dict[str, Path], spec: KitSpec, golden: list[GoldenFrame], cuda: Cuda, protocol: Protocol
) -> list[Candidate]:
    """Load every engine, compare the golden masks, then time them by turns."""
    from contextlib import ExitStack

    from .run_engine import Runner

    with ExitStack() as stack:
        runners = {name: stack.enter_context(Runner(path, spec, cuda)) for name, path in engines.items()}
        agreements = {name: golden_agreement(runner.infer, golden, spec) for name, runner in runners.items()}
        samples = measure({name: runner.run for name, runner in runners.items()}, protocol)
        return [
            Candidate(name, engines[name], parse_inspector(runner.inspect()), agreements[name], samples[name])
            for name, runner in runners.items()
        ]


def golden_agreement(infer: Any, golden: list[GoldenFrame], spec: KitSpec) -> Agreement | None:
    """All golden frames together; None where there are none."""
    found = [compare(infer(feed(frame.pixels, spec)), frame.mask, spec.logit_step) for frame in golden]
    if not found:
        return None
    return Agreement(sum(a.pixels for a in found), sum(a.differing for a in found), sum(a.near for a in found))


def facts_of(candidate: Candidate, graph: GraphFile, cuda: Cuda, trtexec: list[str]) -> dict[str, Any]:
    """What the sidecar keeps besides the machine."""
    agreement = candidate.agreement
    return {
        "schema": 1,
        "precision": candidate.precision,
        "graph_sha256": graph.sha256,
        "jetpack": jetpack_version(),
        "board": board_name(),
        "cuda_runtime": cuda.runtime_version(),
        "trtexec": trtexec,
        "census": counts(candidate.layers),
        "layers": [vars(layer) for layer in candidate.layers],
        "golden": None if agreement is None else {**vars(agreement), "ratio": agreement.ratio},
        "latency": summary(candidate.samples),
        "samples": as_json(candidate.samples),
    }


def report(candidates: list[Candidate], chosen: Candidate) -> None:
    """Print one line per engine."""
    for c in candidates:
        agreed = (
            "not checked"
            if c.agreement is None
            else f"{c.agreement.ratio:.4%} ({c.agreement.near} px within half a step)"
        )
        p90 = {part: values["p90"] / 1e6 for part, values in summary(c.samples).items()}
        mark = "kept" if c is chosen else "    "
        print(
            f"{mark} {c.precision}: p90 {p90['total_ns']:.3f} ms (copy in {p90['h2d_ns']:.3f}, compute "
            f"{p90['compute_ns']:.3f}, copy out {p90['d2h_ns']:.3f}), masks {agreed}, layers {counts(c.layers)}"
        )


def run(folder: Path, options: argparse.Namespace) -> None:
    """The whole build."""
    spec = load_kit(folder)
    golden = [] if options.no_golden else read_golden(options.golden or folder.parent / "golden", spec)
    require_tensorrt()
    cuda = Cuda()
    machine: Machine = this_machine(cuda)
    graphs = wanted_graphs(spec, options.precision, machine.compute_capability)
    available = mem_available_bytes(Path("/proc/meminfo").read_text(encoding="utf-8"))
    largest = max(graph.path.stat().st_size for graph in graphs)
    room = buildable_bytes(machine.l4t, available, cuda.free_bytes())
    plan = plan_memory(sys.maxsize if options.force else room, largest, spec.activation_bytes, options.workspace)
    print(f"TensorRT {machine.tensorrt}, compute capability {machine.compute_capability}, Jetson Linux {machine.l4t}")
    engines, lines, out = {}, {}, options.out or engines_folder(folder)
    out.mkdir(parents=True, exist_ok=True)
    for graph in graphs:
        print(
            f"building {graph.precision} with {plan.workspace_bytes >> 20} MiB workspace: minutes, be patient",
            flush=True,
        )
        engines[graph.precision], lines[graph.precision] = build(graph, out, plan.workspace_bytes, options)
    candidates = examine(engines, spec, golden, cuda, RAPID if options.rapid else Protocol())
    for candidate in candidates:
        name = candidate.precision
        write_sidecar(candidate.engine, machine, facts_of(candidate, spec.graphs[name], cuda, lines[name]))
    chosen = choose(candidates, {"int8": options.min_agreement_int8, "fp16": options.min_agreement_fp16})
    write_json(out / CHOSEN, {"engine": chosen.engine.name, "sha256": sha256_of(chosen.engine)})
    report(candidates, chosen)


def main(line: list[str] | None = None, folder: Path | None = None) -> int:
    """Command line. Exit codes: 0 done, 1 failure, 2 usage, 3 masks disagree, 5 something is not installed."""
    try:
        run(folder or Path(__file__).resolve().parent.parent, arguments(line))
    except KitError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0
