"""The C++ sample of a bundle beside Python's Segmenter: the same bundle and frame, bursts in turn, medians.

    python benchmarks/sdk.py --out benchmarks/results/DATE-sdk.json [--rounds 30]

Both are asked for a mask of the frame's size: resize, infer, read the mask. `infer` is the runtime's part of that. The
first run of a burst refills the caches and is not counted. `load` is the machine's load average before and after.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.files import canonical_json, write_text
from edge_unet.core.report import percentile_ns
from edge_unet.data.scenes import SceneDataset
from edge_unet.measure.environment import read_environment
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.segment.segmenter import Segmenter

TARGETS = ("cpu", "embedded-linux")
SIZES = ((256, 256), (480, 640))
BURST = 10

Samples = dict[str, list[int]]


def build(bundle: Path) -> Path:
    """The program segment, built with the one command of the bundle's README."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    command = ["make", "-C", str(bundle / "integration/cpp")]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PATH": places})
    return bundle / "build-cpp/segment"


def cpp_burst(program: subprocess.Popen[str], runs: int) -> Samples:
    """Samples of `runs` runs of the C++ sample."""
    assert program.stdin is not None
    assert program.stdout is not None
    program.stdin.write(f"{runs}\n")
    program.stdin.flush()
    found: Samples = json.loads(program.stdout.readline())
    return found


def python_burst(segmenter: Segmenter, frame: NDArray[np.uint8], runs: int) -> Samples:
    """Samples of `runs` runs of the Segmenter."""
    timings = [segmenter(frame).timing for _ in range(runs)]
    return {"infer_ns": [t.infer_ns for t in timings], "total_ns": [t.total_ns for t in timings]}


def in_turn(bundle: Path, program: Path, frame: NDArray[np.uint8], rounds: int, room: Path) -> dict[str, Samples]:
    """Both, burst by burst; who begins changes with every round. Raises SystemExit where their masks differ."""
    ppm, pgm = room / "frame.ppm", room / "mask.pgm"
    ppm.write_bytes(f"P6\n{frame.shape[1]} {frame.shape[0]}\n255\n".encode() + frame.tobytes())
    command = [str(program), str(bundle), str(ppm), str(pgm), "--bursts"]
    samples: dict[str, Samples] = {name: {"infer_ns": [], "total_ns": []} for name in ("cpp", "python")}
    with (
        Segmenter.load(bundle) as segmenter,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as running,
    ):
        bursts = {
            "cpp": lambda runs: cpp_burst(running, runs),
            "python": lambda runs: python_burst(segmenter, frame, runs),
        }
        for name in bursts:
            bursts[name](3 * BURST)  # warm-up
        if pgm.read_bytes()[-frame.shape[0] * frame.shape[1] :] != segmenter(frame).mask.tobytes():
            raise SystemExit(f"{bundle}: the C++ sample gives another mask than Python")
        for number in range(rounds):
            for name in sorted(bursts, reverse=bool(number % 2)):
                for part, values in bursts[name](BURST + 1).items():
                    samples[name][part] += values[1:]
        assert running.stdin is not None
        running.stdin.close()
    return samples


def row(target: str, size: tuple[int, int], samples: dict[str, Samples]) -> dict[str, Any]:
    """Percentiles of both, and how many times as long Python takes. On a busy machine p10 is the undisturbed time."""
    values: dict[str, Any] = {"target": target, "frame": f"{size[1]}x{size[0]}"}
    for name, parts in samples.items():
        values[name] = {"runs": len(parts["total_ns"])}
        for part, times in parts.items():
            word = part.removesuffix("_ns")
            values[name] |= {f"{word}_p{p}_ns": percentile_ns(times, p) for p in (10, 50, 90)}
    for word in ("infer", "total"):
        values[f"python_to_cpp_{word}"] = {
            f"p{p}": round(values["python"][f"{word}_p{p}_ns"] / values["cpp"][f"{word}_p{p}_ns"], 3) for p in (10, 50)
        }
    return values


def main() -> None:
    """Export, build, time and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    before, rows = os.getloadavg()[0], []
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as name:
        room = Path(name)
        for target in TARGETS:
            (bundle,) = export(None, resolve_targets(target), room)
            program = build(bundle.folder)
            for size in SIZES:
                frame = np.ascontiguousarray(SceneDataset("endoscopy", 1, 77, *size).load(0)[0])
                rows.append(row(target, size, in_turn(bundle.folder, program, frame, given.rounds, room)))
                print(json.dumps(rows[-1]))
    environment = read_environment(threads=1).model_dump(mode="json")
    result = {"rows": rows, "burst": BURST, "load": [before, os.getloadavg()[0]], "environment": environment}
    write_text(given.out, canonical_json(result))


if __name__ == "__main__":
    main()
