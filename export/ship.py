"""Put a trained QAT checkpoint where `edge-unet export --model NAME` finds it.

    python export/ship.py runs/roads-small/qat.safetensors roads-small

Its weights become the int8 codes that they are to every runtime (edge_unet/quantization/settle.py). The name is to be
in pipeline/reference.py already; the card beside the checkpoint is written by hand and filled by benchmarks/summary.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from edge_unet.core.errors import UsageError
from edge_unet.models.checkpoint import load_checkpoint, save_checkpoint
from edge_unet.pipeline.reference import SHIPPED
from edge_unet.quantization.settle import settled

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Settle and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name", help="a name of pipeline/reference.py")
    given = parser.parse_args()
    if given.name not in SHIPPED:
        raise UsageError(f"{given.name}: not in edge_unet/pipeline/reference.py; name it there first")
    trained = load_checkpoint(given.checkpoint)
    path = ROOT / "edge_unet" / "reference" / f"{given.name}.safetensors"
    sha256 = save_checkpoint(path, trained.info, settled(trained).state)
    print(f"{path.relative_to(ROOT)}: sha256 {sha256}, settled from {trained.sha256}", file=sys.stderr)


if __name__ == "__main__":
    main()
