"""How long the tools themselves take: whole processes, timed in turn, medians.

    python benchmarks/tools.py --out benchmarks/results/DATE-tools.json [--runs 5]

Start-up (`--help`, `models`), export of the reference model to every target, verify on every target that runs here,
and a rapid benchmark: what a user waits for. The result is the baseline that a slower tool is held against.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from edge_unet.core.files import canonical_json, write_text
from edge_unet.measure.environment import read_environment

EXPORTED = ("cpu", "android", "onnx", "ios", "jetson")
COMMANDS: dict[str, tuple[str, ...]] = {
    "help": ("--help",),
    "models": ("models",),
    "doctor": ("doctor",),
    **{f"export {target}": ("export", "--target", target, "--out", "{room}/one") for target in EXPORTED},
    "export all": ("export", "--target", "all", "--out", "{room}/all"),
    **{f"verify {t}": ("verify", f"{{room}}/all/endoscopy-{t}-int8") for t in ("cpu", "android", "onnx")},
    "bench cpu rapid": ("bench", "{room}/all/endoscopy-cpu-int8", "--rapid", "--out", "{room}/bench.json"),
    "report": ("report", "{room}/bench.json", "--out", "{room}/page"),
}
"""Name -> arguments of edge-unet, in an order in which each finds what it needs."""


def timed(arguments: tuple[str, ...], room: str) -> tuple[float, float]:
    """(wall seconds, CPU seconds) of one process. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-m", "edge_unet.cli", *(a.format(room=room) for a in arguments)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Time every command `--runs` times, round by round, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=5)
    given = parser.parse_args()
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(given.runs):
        with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
            for name, arguments in COMMANDS.items():
                samples[name].append(timed(arguments, room))
    rows = {
        name: {
            "wall_s": [round(wall, 3) for wall, _ in pairs],
            "wall_median_s": round(statistics.median(wall for wall, _ in pairs), 3),
            "cpu_median_s": round(statistics.median(cpu for _, cpu in pairs), 3),
        }
        for name, pairs in samples.items()
    }
    environment = read_environment(threads=1).model_dump(mode="json")
    write_text(given.out, canonical_json({"schema_version": 1, "environment": environment, "commands": rows}))
    for name, row in rows.items():
        print(f"{name:<18} {row['wall_median_s']:8.2f} s wall {row['cpu_median_s']:8.2f} s cpu")


if __name__ == "__main__":
    main()
