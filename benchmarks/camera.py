"""The host camera on real videos: frames per second, a deadline under load, and half an hour of looping.

    python benchmarks/camera.py fps      --out RESULT.json --video VIDEO… -- BUNDLE
    python benchmarks/camera.py deadline --out RESULT.json --video VIDEO… --deadline 40ms -- L1 L2 L3 L4
    python benchmarks/camera.py soak     --out RESULT.json --video VIDEO --minutes 30 --deadline 100ms -- L1 L2 L3 L4

Each part runs `edge-unet camera` as a user does, in a process of its own, and puts its rows into the result beside
those of the other parts. `deadline` starts busy processes for the middle third of the run. `soak` reads the memory of
the process every ten seconds, ends it with ctrl-C, and counts that every frame has its line in the results and that
the recording plays.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_unet.core.files import canonical_json, write_text
from edge_unet.measure.environment import read_environment
from edge_unet.segment.camera.sources import SourceEndedError, SourceUri, open_source
from edge_unet.segment.camera.stats import FRAME

SAMPLE_S = 10.0


def camera(bundles: list[Path], video: Path, *arguments: str) -> list[str]:
    """The command line."""
    source = ("--source", f"file://{video.resolve()}")
    return [sys.executable, "-m", "edge_unet.cli", "camera", *map(str, bundles), *source, *arguments, "--json"]


def row_of(command: list[str]) -> dict[str, Any]:
    """Run it to its end; its last line. Raises CalledProcessError where it fails."""
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def measure_fps(bundles: list[Path], video: Path, given: argparse.Namespace) -> dict[str, Any]:
    """As fast as it goes: without a sink, and into a video file."""
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        counted = ("--frames", str(given.frames), "--loop")
        rows = {
            "none": row_of(camera(bundles, video, "--sink", "none", *counted)),
            "file": row_of(camera(bundles, video, "--sink", f"file://{room}/out.mp4", *counted)),
        }
    return {"network": bundles[0].name, "video": video.name, "load_average": os.getloadavg()[0], "sinks": rows}


def spin(seconds: float) -> None:
    """Keep a core busy."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


@contextmanager
def load_later(processes: int, after_s: float, for_s: float) -> Iterator[None]:
    """Busy processes that begin in a while."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_wait_and_spin, args=(after_s, for_s)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _wait_and_spin(after_s: float, for_s: float) -> None:
    time.sleep(after_s)
    spin(for_s)


def measure_deadline(bundles: list[Path], video: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The video at its own rate, with busy processes in its middle third."""
    plot = given.out.with_name(f"{given.out.stem}-{video.stem}.svg")
    seconds = given.frames / given.rate
    counted = ("--frames", str(given.frames), "--loop", "--realtime", "--deadline", given.deadline)
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        written = ("--plot", str(plot), "--results", f"{room}/rows.jsonl")
        with load_later(given.busy, seconds / 3, seconds / 3):
            row = row_of(camera(bundles, video, "--sink", "none", *written, *counted))
        lines = [json.loads(line) for line in Path(f"{room}/rows.jsonl").read_text().splitlines()]
    late = [line for line in lines if sum(line["ms"][name] for name in FRAME) > row["deadline"]["ms"]]
    row["late"] = {level: sum(line["level"] == level for line in late) for level in row["levels"]}
    load = {"processes": given.busy, "after_s": seconds / 3, "for_s": seconds / 3}
    return {"video": video.name, "load": load, "load_average": os.getloadavg()[0], "plot": plot.name, **row}


def memory_kib(pid: int) -> dict[str, int]:
    """What the kernel says a process occupies."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: int(next(x for x in lines if x.startswith(name)).split()[1]) for name in ("VmRSS", "RssAnon")}


def measure_soak(bundles: list[Path], video: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Loop for `--minutes` with results and, unless `--no-record`, a recording; then ctrl-C."""
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        written = ("--results", f"{room}/rows.jsonl", "--deadline", given.deadline)
        recorded = ("--record", f"{room}/out.mp4") if given.record else ()
        command = camera(bundles, video, "--sink", "none", "--loop", "--realtime", *written, *recorded)
        began = time.monotonic()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        samples = []
        while time.monotonic() - began < given.minutes * 60 and child.poll() is None:
            time.sleep(SAMPLE_S)
            samples.append({"at_s": round(time.monotonic() - began, 1), **memory_kib(child.pid)})
        child.send_signal(signal.SIGINT)
        out, _ = child.communicate(timeout=120)
        row: dict[str, Any] = json.loads(out.splitlines()[-1])
        numbers = [json.loads(line)["frame"] for line in Path(f"{room}/rows.jsonl").read_text().splitlines()]
        frames = frames_in(Path(f"{room}/out.mp4")) if given.record else None
        counts = {"result_lines": len(numbers), "recorded_frames": frames}
    row |= counts | {
        "video": video.name,
        "exit_code": child.returncode,
        "results_complete": numbers == list(range(1, row["frames"] + 1)),
        "memory": {"samples": samples, **growth(samples)},
    }
    return row


def frames_in(path: Path) -> int:
    """Frames of a video that decode."""
    source, count = open_source(SourceUri.parse(str(path))), 0
    while True:
        try:
            source.read()
        except SourceEndedError:
            return count
        count += 1


def growth(samples: list[dict[str, float]]) -> dict[str, float | None]:
    """KiB a minute over the run without its first two minutes, by least squares; None for a short run."""
    late = [s for s in samples if s["at_s"] >= 120]
    if len(late) < 6:
        return {"rss_growth_kib_per_minute": None}
    slope = np.polyfit([s["at_s"] / 60 for s in late], [s["VmRSS"] for s in late], 1)[0]
    return {"rss_growth_kib_per_minute": round(float(slope), 2)}


def main() -> None:
    """Run one part and put it into the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("fps", "deadline", "soak"))
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", help="name of the part in the result, where one part is run twice")
    parser.add_argument("--video", type=Path, action="append", required=True)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--rate", type=float, default=25.0, help="frames per second of the video, to time the load")
    parser.add_argument("--busy", type=int, default=2)
    parser.add_argument("--deadline", default="40ms")
    parser.add_argument("--record", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background inherits "ignore"
    part = {"fps": measure_fps, "deadline": measure_deadline, "soak": measure_soak}[given.part]
    rows = [part(given.bundles, video, given) for video in given.video]
    environment = read_environment(threads=1).model_dump(mode="json")
    result = json.loads(given.out.read_text()) if given.out.is_file() else {"schema_version": 1}
    result[given.name or given.part] = {"environment": environment, "rows": rows}
    write_text(given.out, canonical_json(result))


if __name__ == "__main__":
    main()
