"""Point accuracy, FP and FN of the lanes app with a shipped lane model on the labelled TuSimple frames that are here.

    python benchmarks/tusimple.py --out benchmarks/results/DATE-tusimple.json [--model lanes-small] [--data DIR]

The labels are the middles of the sample's instance masks in every tenth row, as TuSimple's own are. Most of the frames
were trained on, so every frame is scored alone and the two kinds are averaged apart. Beside the app stand its steps
behind the network alone, given the label masks in place of the network's: what they cannot reach is not the network's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.files import canonical_json, sha256_of, write_text
from edge_unet.core.recipe import load_recipe
from edge_unet.data.open import open_data
from edge_unet.frames import read_mask
from edge_unet.measure.environment import read_environment
from edge_unet.segment.lanes import tusimple
from edge_unet.segment.lanes.birdseye import BirdsEye
from edge_unet.segment.lanes.calibration import Calibration, read_calibration
from edge_unet.segment.lanes.curve import fit_curve
from edge_unet.segment.lanes.instances import lane_instances

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("EDGE_UNET_DATA", ROOT.parent / "shared" / "data"))
SET = "tusimple_sample"
MODELS = ("lanes-nano", "lanes-small")
ROWS = (160, 720, 10)
FAR_M = (45.0, 60.0, 90.0)
"""How far the view looks; 60 m is the calibration's own, the others say how much hangs on it."""

Lanes = Mapping[str, Sequence[Sequence[float]]]


def labelled(folder: Path) -> dict[str, list[list[float]]]:
    """Frame -> its lanes, from the instance masks."""
    images = sorted((folder / "images").iterdir())
    masks = {path.name: read_mask(folder / "instance_masks" / f"{path.stem}.png") for path in images}
    return {name: tusimple.lanes_of_instances(mask, range(*ROWS)) for name, mask in masks.items()}


def by_app(
    bundle: Path, folder: Path, calibration: Calibration, room: Path
) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Frame -> what the app writes as its points."""
    file, points = room / "camera.toml", room / "points.jsonl"
    view = calibration.view
    text = (ROOT / "apps" / "lanes" / "calibration.tusimple.toml").read_text(encoding="utf-8")
    file.write_text(text.replace("far_m = 60.0", f"far_m = {view.far_m}"), encoding="utf-8")
    command = [
        sys.executable, str(ROOT / "apps" / "lanes" / "lanes.py"), str(bundle), "--calibration", str(file), "--source",
        f"file://{folder / 'images'}", "--points", str(points), "--rows", *map(str, ROWS), "--json",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return {frame.name: frame.lanes for frame in tusimple.read_frames(points)}


def by_label_masks(folder: Path, calibration: Calibration) -> dict[str, list[list[float]]]:
    """Frame -> the points of the app's own steps behind the network, on the label masks."""
    birdseye, found = BirdsEye(calibration), {}
    for image in sorted((folder / "images").iterdir()):
        mask: NDArray[np.uint8] = (read_mask(folder / "masks" / f"{image.stem}.png") > 0).astype(np.uint8)  # (H, W)
        curves = [curve for points in lane_instances(mask, birdseye) if (curve := fit_curve(points)) is not None]
        found[image.name] = [tusimple.lane_of_curve(curve, birdseye, range(*ROWS)) for curve in curves]
    return found


def scored(given: Lanes, labels: Lanes, held_out: Sequence[str]) -> dict[str, Any]:
    """Scores of every frame, and the means over frames that were trained on and that were not."""
    frames = {name: tusimple.score_frame(given[name], labels[name], range(*ROWS)) for name in labels}
    parts = {"trained_on": [n for n in labels if n not in held_out], "held_out": list(held_out)}
    means = {part: tusimple.mean_score([frames[n] for n in names]) for part, names in parts.items()}
    rows = {
        n: {
            **asdict(s),
            "lanes": len(labels[n]),
            "predicted": len(given[n]),
            "points": points_of({n: given[n]}, {n: labels[n]}),
        }
        for n, s in frames.items()
    }
    return {"frames": rows, **{part: {"frames": len(parts[part]), **asdict(mean)} for part, mean in means.items()}}


def points_of(given: Lanes, labels: Lanes) -> dict[str, int]:
    """How the labelled points fare with the prediction that suits each lane best: near, further off than the reach of
    20 pixels (not slanted, so a few more are called off than the score has wrong), or without a point in their row."""
    found = {"near": 0, "off": 0, "absent": 0}
    for name, lanes in labels.items():
        for lane in lanes:
            label = np.asarray(lane)
            away = [np.where(np.asarray(g) >= 0, np.abs(np.asarray(g) - label), np.inf) for g in given[name]]
            if not away:
                away = [np.full(len(label), np.inf)]
            best = max(away, key=lambda a: int((a[label >= 0] < tusimple.PIXELS).sum()))[label >= 0]
            near, absent = int((best < tusimple.PIXELS).sum()), int(np.isinf(best).sum())
            for key, count in (("near", near), ("absent", absent), ("off", len(best) - near - absent)):
                found[key] += count
    return found


def held_out_frames(data: Path) -> list[str]:
    """Names of the sample's frames that the recipe's split keeps from training."""
    names = open_data(load_recipe(ROOT / "export" / "recipes" / "lanes.toml"), "val", data).names
    return [Path(name).name for name in names if name.startswith(f"{SET}/")]


def main() -> None:
    """Export, run, score and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", choices=MODELS, default=MODELS[0])
    parser.add_argument("--data", type=Path, default=DATA)
    given = parser.parse_args()
    folder = given.data / SET
    file = ROOT / "apps" / "lanes" / "calibration.tusimple.toml"
    calibration, labels, held_out = read_calibration(file), labelled(folder), held_out_frames(given.data)
    views: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="edge-unet-") as name:
        room = Path(name)
        command = [sys.executable, "-m", "edge_unet.cli", "export", given.model, "--target", "cpu", "--out", str(room)]
        subprocess.run(command, check=True, capture_output=True)
        bundle = room / f"{given.model}-cpu-int8"
        for far_m in FAR_M:
            view = calibration.view.model_copy(update={"far_m": far_m})
            seen = calibration.model_copy(update={"view": view})
            views[f"{far_m:g}"] = {
                "app": scored(by_app(bundle, folder, seen, room), labels, held_out),
                "label_masks": scored(by_label_masks(folder, seen), labels, held_out),
            }
        artifact = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["artifact"]
    value = {
        "schema_version": 1,
        "environment": read_environment(threads=1).model_dump(mode="json"),
        "model": {
            "name": given.model,
            "checkpoint_sha256": sha256_of(ROOT / "edge_unet" / "reference" / f"{given.model}.safetensors"),
            "artifact": {key: artifact[key] for key in ("target", "precision", "sha256")},
        },
        "inputs": {
            "images": {path.name: sha256_of(path) for path in sorted((folder / "images").iterdir())},
            "instance_masks": sha256_of(folder / "instance_masks"),
            "masks": sha256_of(folder / "masks"),
            "calibration": sha256_of(file),
        },
        "rows": list(range(*ROWS)),
        "held_out": held_out,
        "by_far_m": views,
        "notes": [
            "Frames that are not held out were in the training set of these weights.",
            "The held-out frame is of the same drive, and the kept epoch was chosen on a split that it is part of.",
            "Labels are read off instance masks, a polyline of some pixels, not off TuSimple's own label file.",
            "The calibration was read off the labels of the five other frames.",
        ],
    }
    write_text(given.out, canonical_json(value))
    for far, view in views.items():
        for what, row in view.items():
            for part in ("trained_on", "held_out"):
                score = ", ".join(f"{k} {row[part][k]:.3f}" for k in ("accuracy", "false_positives", "false_negatives"))
                print(f"{far} m, {what}, {part} ({row[part]['frames']}): {score}")


if __name__ == "__main__":
    main()
