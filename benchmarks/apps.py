"""How long a frame takes in the two apps, stage by stage, against their budgets.

    python benchmarks/apps.py --out benchmarks/results/DATE-apps.json [--data DIR] [--runs 3]

Both run over the videos of the data folder, into a video file, with a log and without a report, one thread. Of every
app the run with the lowest median is kept; `cpu_p50_ms` is what the stage computes, which other load does not change.
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

from edge_unet.core.files import canonical_json, write_text
from edge_unet.measure.environment import read_environment

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("EDGE_UNET_DATA", ROOT.parent / "shared" / "data"))


def exported(model: str, room: str) -> Path:
    """The cpu bundle of a shipped model."""
    command = [sys.executable, "-m", "edge_unet.cli", "export", model, "--target", "cpu", "--out", room]
    subprocess.run(command, check=True, capture_output=True)
    return Path(room) / f"{model}-cpu-int8"


def measured(app: str, bundle: Path, video: Path, more: tuple[str, ...], runs: int, room: str) -> dict[str, Any]:
    """The figures of the quickest run, with the medians of all."""
    rows = []
    program = str(ROOT / "apps" / app / f"{app}.py")
    for number in range(runs):
        command = [
            sys.executable, program, str(bundle), "--source", f"file://{video}", "--json",
            "--sink", f"file://{room}/{app}{number}.mp4", "--log", f"{room}/{app}{number}.jsonl", *more,
        ]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    best = min(rows, key=lambda row: row["latency"]["total"]["p50_ms"])
    return {**best, "video": video.name, "runs_total_p50_ms": [row["latency"]["total"]["p50_ms"] for row in rows]}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as room:
        endoscopy, lanes = exported("endoscopy", room), exported("lanes-nano", room)
        calibration = ("--calibration", str(ROOT / "apps" / "lanes" / "calibration.example.toml"))
        rows = {
            "endoscopy": measured(
                "endoscopy", endoscopy, given.data / "cvc_clinicdb" / "trainval_frames_10fps.mp4", (), given.runs, room
            ),
            "lanes": measured(
                "lanes", lanes, given.data / "udacity_lane_lines" / "solidWhiteRight.mp4", calibration, given.runs, room
            ),
        }
    value = {
        "schema_version": 1,
        "environment": read_environment(threads=1).model_dump(mode="json"),
        "load_average": {"before": round(load_before, 2), "after": round(os.getloadavg()[0], 2)},
        "apps": rows,
    }
    write_text(given.out, canonical_json(value))
    for name, row in rows.items():
        print(f"{name}: {row['latency']['total']['p50_ms']:.1f} ms p50 on {row['video']}, load {load_before:.1f}")


if __name__ == "__main__":
    main()
