"""The full-size matrix: every network, level and target, with bytes, INT8 layers, agreement and p90 on this machine.

python export/matrix.py                     the presets of SELECTION that have no rows yet
python export/matrix.py NAME [NAME …]       these presets, measured anew
python export/matrix.py NAME --run runs/NAME --data FOLDER   with the weights of a training and real images
python export/matrix.py NAME … --targets mcu                  these rows alone, the others stay

Without a run a network is trained for one short epoch in FP32 and one in QAT on procedural scenes. Rows are kept
in export/results/matrix.json after every preset; `python benchmarks/summary.py` makes the table of export/README.md.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_unet.core.files import canonical_json, written_whole
from edge_unet.core.registry import lookup
from edge_unet.measure.environment import read_environment
from edge_unet.models import PRESETS
from edge_unet.models.checkpoint import load_checkpoint
from edge_unet.pipeline.matrix import quick_checkpoint, rows_of
from edge_unet.targets.registry import TARGETS

RESULTS = Path(__file__).resolve().parent / "results" / "matrix.json"
SIZE = 256
TRAIN_SIZE = 128
SELECTION = (
    "mobile_unet-0.5", "unet-16", "unetpp-16", "attention_unet-16", "resunet-16", "unet3p-16", "unext", "unet_v2-b0",
    "vm_unet_v2-tiny", "transunet-tiny", "mobile_unetpp-0.5", "mobile_unet_v2-0.5", "mobile_vm_unet_v2-0.5",
)  # fmt: skip
"""One preset a network, of a size that an edge machine can run; the others take hours on two cores."""


def dice_of(run: Path) -> dict[str, float]:
    """Validation Dice of the kept weights, FP32 and INT8 (fake-quant), as training measured it."""
    files = {"fp32": run / "fp32.safetensors", "int8": run / "qat.safetensors"}
    return {kind: load_checkpoint(path).info.metrics["val_dice"] for kind, path in files.items()}


def described(run: Path) -> str:
    """How a run was trained, in short."""
    recipe = load_checkpoint(run / "qat.safetensors").info.recipe
    epochs = f"{recipe.train.epochs} epochs FP32 and {recipe.quantize.qat.epochs} QAT"
    return f"{epochs} on {', '.join(recipe.data.train) or 'procedural scenes'}"


def kept(entry: dict[str, Any] | None, targets: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of an earlier run for targets that are not measured now."""
    return [row for row in (entry or {"rows": []})["rows"] if row["target"] not in targets]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--run", type=Path, help="folder with fp32.safetensors and qat.safetensors")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    given = parser.parse_args()
    known = json.loads(RESULTS.read_text(encoding="utf-8"))["presets"] if RESULTS.is_file() else {}
    targets = tuple(lookup(TARGETS, name, "target") for name in given.targets)
    for name in given.names or [name for name in SELECTION if name not in known]:
        with tempfile.TemporaryDirectory(prefix="edge-unet-") as folder:
            weights = "one epoch FP32 and one QAT on 64 procedural scenes"
            if given.run is None:
                checkpoint = quick_checkpoint(name, PRESETS[name], Path(folder), size=SIZE, train_size=TRAIN_SIZE)
            else:
                checkpoint, weights = given.run / "qat.safetensors", f"trained: {described(given.run)}"
            rows = rows_of(name, checkpoint, weights=weights, data=given.data, images=given.images, targets=targets)
        cpu = read_environment(threads=1).cpu_model
        known[name] = {
            "measured": datetime.now(timezone.utc).date().isoformat(),
            "cpu": cpu,
            "dice": dice_of(given.run) if given.run else (known.get(name) or {}).get("dice", {}),
            "rows": [*kept(known.get(name), given.targets), *(row.model_dump(mode="json") for row in rows)],
        }
        RESULTS.parent.mkdir(exist_ok=True)
        with written_whole(RESULTS) as temporary:
            temporary.write_text(canonical_json({"schema_version": 1, "presets": known}), encoding="utf-8")


if __name__ == "__main__":
    main()
