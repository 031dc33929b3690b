"""Measure the shipped reference model on real data, on every target that runs or is interpreted here.

    EDGE_UNET_DATA=DIR python benchmarks/reference.py --fp32 runs/endoscopy/fp32.safetensors --out RESULT.json

Quality of the float checkpoint, of the QAT checkpoint and of every artifact on the validation splits, agreement of
every artifact with the canonical graph, and latency, all in one result file.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from edge_unet.core.bundle import open_bundle
from edge_unet.core.errors import UsageError
from edge_unet.core.report import EvaluateResult, read_report, write_report
from edge_unet.core.spec import Precision
from edge_unet.pipeline.bench import bench
from edge_unet.pipeline.evaluate import evaluate
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.pipeline.frames import frames_from
from edge_unet.pipeline.reference import reference_checkpoint
from edge_unet.pipeline.verify import verify

SETS = ("kvasir_seg", "cvc_clinicdb")
TIMED = ("cpu", "android", "onnx")


def _of_float(path: Path) -> list[EvaluateResult]:
    """The Dice of the float checkpoint as an earlier result file has it: Dice does not depend on the machine."""
    rows = read_report(path).evaluated
    return [r for r in rows if r.subject and r.subject.target == "checkpoint" and r.subject.precision is Precision.FP32]


def main() -> None:
    """Run everything and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--fp32",
        type=Path,
        help="the float checkpoint the shipped one was quantized from, or a result that has its Dice",
    )
    parser.add_argument("--rapid", action="store_true")
    arguments = parser.parse_args()
    if "EDGE_UNET_DATA" not in os.environ:
        raise UsageError("set EDGE_UNET_DATA to the folder that holds " + " and ".join(SETS))
    root = Path(os.environ["EDGE_UNET_DATA"])
    with tempfile.TemporaryDirectory() as room:
        exported = export(None, resolve_targets("all"), Path(room))
        bundles = {b.manifest.artifact.target: b.folder for b in exported}
        manifest = open_bundle(bundles["cpu"]).manifest
        evaluated: list[EvaluateResult] = []
        known = arguments.fp32 is not None and arguments.fp32.suffix == ".json"
        evaluated += _of_float(arguments.fp32) if known else []
        models = [p for p in (None if known else arguments.fp32, reference_checkpoint()) if p is not None]
        for name in SETS:
            frames = frames_from(root / name, manifest.preprocess, manifest.classes)
            for model in (*models, *bundles.values()):
                evaluated.append(evaluate(model, root / name, frames=frames))
        frames = frames_from(root / SETS[0], manifest.preprocess, manifest.classes)
        verified = tuple(verify(folder, frames=frames) for folder in bundles.values())
        report = bench([bundles[name] for name in TIMED], Path(room) / "bench.json", rapid=arguments.rapid)
    notes: tuple[str, ...] = (
        f"Agreement: {len(frames.frames)} validation frames of {SETS[0]}.",
        "Dice: plain threshold at logit 0, mean over images.",
    )
    if known:
        notes += (f"Dice of the FP32 checkpoint: from {arguments.fp32.name}.",)
    update = {"verified": verified, "evaluated": tuple(evaluated), "notes": notes}
    title = "reference model: endoscopy"
    write_report(arguments.out, report.model_copy(update={"title": title, **update}))
    print(arguments.out)


if __name__ == "__main__":
    main()
