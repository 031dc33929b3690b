"""Read scales and integer payloads out of a saved .tflite file of target `mcu`."""

from __future__ import annotations

from pathlib import Path

from edge_unet.core.artifact import Artifact, ReadBack
from edge_unet.targets.tflite.build import SCRATCH
from edge_unet.targets.tflite.read_back import read_back as read_tflite


def read_back(folder: Path, artifact: Artifact) -> ReadBack:
    """Grids of every canonical activation and the int8 weights; weights that the lowering itself made (those of a
    linear Resize) are left out, the canonical graph does not have them.

    Raises ArtifactError where the file is missing, changed, truncated or not written by this package.
    """
    read = read_tflite(folder, artifact)
    weights = {name: held for name, held in read.weights.items() if SCRATCH not in name}
    return ReadBack(read.activations, weights, read.absent)
