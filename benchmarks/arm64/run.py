"""The shipped model's .tflite and ONNX files on an emulated arm64 CPU, bit by bit against this machine.

    python benchmarks/arm64/run.py --out benchmarks/results/DATE-arm64.json     (or: make arm64)

Correctness only: an emulator's time says nothing and none is written. The golden frames and, with EDGE_UNET_DATA, real
ones. The emulator, the arm64 root folder and the wheels are kept in out/arm64 (rootfs.py); the first run fetches them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rootfs import Emulated, fetch

from edge_unet.core.bundle import CANONICAL, Bundle
from edge_unet.core.errors import AccuracyGateError, ArtifactError, EdgeUnetError
from edge_unet.core.files import canonical_json, sha256_of, write_text
from edge_unet.core.spec import PreprocessSpec, TensorSpec, feed_from_pixels, logits_from_output, mask_from_logits
from edge_unet.frames import read_frame
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.pipeline.frames import frames_from

ROOT = Path(__file__).resolve().parent.parent.parent
INSIDE = Path(__file__).with_name("inside.py")
REAL_SET, REAL_FRAMES = "kvasir_seg", 4
TARGETS = ("android", "mcu", "onnx")
LABEL = "arm64 emulated by qemu-user on x86-64: correctness only, never timed"
TIMEOUT_S = 1800


@dataclass(frozen=True)
class Subject:
    """One file on one set of kernels."""

    target: str
    kind: str
    model: Path
    source: TensorSpec
    sink: TensorSpec


def subjects_of(bundles: dict[str, Bundle]) -> list[Subject]:
    """Every file and set of kernels that is compared."""
    found = []
    for target, kinds in (("android", ("xnnpack", "reference")), ("mcu", ("reference",)), ("onnx", ("onnx",))):
        if target not in bundles:
            continue
        artifact = bundles[target].manifest.artifact
        for kind in kinds:
            found.append(Subject(target, kind, bundles[target].artifact, artifact.inputs[0], artifact.outputs[0]))
    first = next(iter(bundles.values()))
    manifest = first.manifest
    frame = manifest.preprocess
    shape = (1, frame.channels, frame.height, frame.width)
    source = TensorSpec(name="image", shape=shape, dtype="float32", layout="NCHW")
    logits = (1, manifest.classes.channels, frame.height, frame.width)
    sink = TensorSpec(name="logits", shape=logits, dtype="float32", layout="NCHW")
    found.append(Subject("canonical", "onnx-plain", first.folder / CANONICAL, source, sink))
    return found


def frames_of(bundle: Bundle, data: Path | None) -> tuple[NDArray[np.uint8], dict[str, str]]:
    """(N, h, w, C) golden and real frames, and the sha256 of each by name."""
    manifest = bundle.manifest
    frames = [read_frame(bundle.folder / golden.frame, manifest.preprocess.color_order) for golden in manifest.golden]
    names = [golden.frame for golden in manifest.golden]
    if data is not None:
        real = frames_from(data / REAL_SET, manifest.preprocess, manifest.classes, REAL_FRAMES)
        frames += list(real.frames)
        names += [f"{REAL_SET} val {number}" for number in range(len(real.frames))]
    return np.stack(frames), {name: _sha(frame) for name, frame in zip(names, frames, strict=True)}


def compare(
    subject: Subject, frames: NDArray[np.uint8], spec: PreprocessSpec, emulated: Emulated, room: Path
) -> dict[str, Any]:
    """One row: the raw outputs of both machines, bit by bit. Raises ArtifactError where a run fails."""
    feeds = room / "feeds.npz"
    np.savez(feeds, feeds=np.stack([feed_from_pixels(frame[None], subject.source, spec) for frame in frames]))
    arguments = (str(subject.model), subject.kind, str(feeds))
    here, here_facts = _run([sys.executable, str(INSIDE)], *arguments, str(room / "x86.npz"))
    there, there_facts = _run(emulated.command(INSIDE), *arguments, str(room / "arm64.npz"))
    masks = [np.stack([mask_from_logits(logits_from_output(y, subject.sink)) for y in side]) for side in (here, there)]
    equal = [bool(np.array_equal(a, b)) for a, b in zip(here, there, strict=True)]
    step = 1.0 if np.issubdtype(here.dtype, np.integer) else float(subject.sink.scale or 1 / 16)
    return {
        "target": subject.target,
        "kernels": subject.kind,
        "model_sha256": sha256_of(subject.model),
        "frames": len(frames),
        "equal_outputs": sum(equal),
        "equal_masks": sum(bool(np.array_equal(a, b)) for a, b in zip(*masks, strict=True)),
        "mask_agreement": float((masks[0] == masks[1]).mean()),
        "max_difference_lsb": float(np.abs(here.astype(np.float64) - there.astype(np.float64)).max()) / step,
        "output_sha256": {"x86": _sha(here), "arm64": _sha(there)},
        "x86": here_facts,
        "arm64": there_facts,
    }


def _run(command: list[str], *arguments: str) -> tuple[NDArray[Any], dict[str, str]]:
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise ArtifactError(f"{arguments[0]} on {arguments[1]}: exit {done.returncode} under {command[0]}: {said}")
    return np.load(arguments[-1])["outputs"], json.loads(done.stdout.splitlines()[-1])


def _sha(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def main() -> None:
    """Run everything and write the result file; exit 3 where a mask differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=ROOT / "out/arm64")
    arguments = parser.parse_args()
    data = Path(os.environ["EDGE_UNET_DATA"]) if "EDGE_UNET_DATA" in os.environ else None
    emulated = fetch(arguments.cache)
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        exported = export(None, [t for name in TARGETS for t in resolve_targets(name)], room / "bundles")
        bundles = {b.manifest.artifact.target: b for b in exported}
        frames, hashes = frames_of(exported[0], data)
        rows = []
        for subject in subjects_of(bundles):
            rows.append(compare(subject, frames, exported[0].manifest.preprocess, emulated, room))
            print("{target} {kernels}: {equal_outputs} of {frames} outputs equal, {equal_masks} masks equal, "
                  "max {max_difference_lsb:g} LSB".format(**rows[-1]), flush=True)  # fmt: skip
    result = {
        "schema_version": 1, "label": LABEL, "emulator": emulated.name(), "host": platform.machine(),
        "frames": hashes, "rows": rows,
    }  # fmt: skip
    write_text(arguments.out, canonical_json(result))
    different = [f"{row['target']} {row['kernels']}" for row in rows if row["equal_masks"] != row["frames"]]
    if different:
        raise AccuracyGateError(f"arm64: masks differ from x86: {', '.join(different)}; see {arguments.out}")


if __name__ == "__main__":
    try:
        main()
    except EdgeUnetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
