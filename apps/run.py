"""Both apps and the camera on the videos that are there; what they write goes into one folder.

    python apps/run.py [--data DIR] [--out out/apps] [--frames N]

DIR is laid out as $EDGE_UNET_DATA is. A video that is not there is told and passed over.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("EDGE_UNET_DATA", ROOT.parent / "shared" / "data"))
EDGE_UNET = (sys.executable, "-m", "edge_unet.cli")
ENDOSCOPY, ROAD = "cvc_clinicdb/trainval_frames_10fps.mp4", "udacity_lane_lines/solidWhiteRight.mp4"


@dataclass(frozen=True)
class Run:
    """One program on one video. `{name}` in an argument is out/<name of the run>."""

    name: str
    model: str
    video: str
    program: tuple[str, ...]
    more: tuple[str, ...]


RUNS = (
    Run("endoscopy", "endoscopy", ENDOSCOPY, (sys.executable, str(ROOT / "apps/endoscopy/endoscopy.py")),
        ("--log", "{name}.jsonl", "--report", "{name}.html")),
    Run("lanes", "lanes-nano", ROAD, (sys.executable, str(ROOT / "apps/lanes/lanes.py")),
        ("--log", "{name}.jsonl", "--report", "{name}.html",
         "--calibration", str(ROOT / "apps/lanes/calibration.example.toml"))),
    Run("camera", "endoscopy", ENDOSCOPY, (*EDGE_UNET, "camera"),
        ("--results", "{name}.jsonl", "--plot", "{name}.svg")),
)  # fmt: skip


def exported(model: str, folder: Path) -> Path:
    """The cpu bundle of a shipped model; exported where it is not there yet."""
    bundle = folder / f"{model}-cpu-int8"
    if not bundle.is_dir():
        subprocess.run([*EDGE_UNET, "export", model, "--target", "cpu", "--out", str(folder)], check=True)
    return bundle


def main() -> int:
    """Run what can be run; 0 where all of it went well, 2 where there was nothing to run on."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("out/apps"))
    parser.add_argument("--frames", type=int, help="of each video; default: all")
    given = parser.parse_args()
    worst, done = 0, 0
    for run in RUNS:
        video = given.data / run.video
        if not video.is_file():
            print(f"{run.name}: no {video}; passed over", flush=True)
            continue
        base = given.out / run.name
        for old in given.out.glob(f"{run.name}.*"):
            old.unlink()  # a log is appended to
        more = [argument.replace("{name}", str(base)) for argument in run.more]
        command = [*run.program, str(exported(run.model, given.out / "bundles")), "--source", f"file://{video}"]
        frames = ["--frames", str(given.frames)] if given.frames else []
        print(f"== {run.name}: {base}.*", flush=True)
        ended = subprocess.run([*command, "--sink", f"file://{base}.mp4", *more, *frames], check=False)
        worst, done = worst or ended.returncode, done + 1
    if not done:
        print(f"error: no video below {given.data}; name a folder with --data or EDGE_UNET_DATA", file=sys.stderr)
    return worst if done else 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.CalledProcessError as error:  # an export that failed has told why
        sys.exit(error.returncode)
