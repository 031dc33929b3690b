"""Read scales and integer payloads out of a saved .tflite file, under the canonical graph's names and layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.artifact import Artifact, Grid, ReadBack
from edge_unet.core.errors import ArtifactError
from edge_unet.targets.tflite.model_file import read_model

WEIGHT_INPUT = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "TRANSPOSE_CONV": 1, "FULLY_CONNECTED": 1}
"""Op -> which of its inputs is the weight."""

CANONICAL_ORDER = {
    "CONV_2D": (0, 3, 1, 2),  # OHWI -> OIHW
    "DEPTHWISE_CONV_2D": (3, 0, 1, 2),  # 1HWO -> O1HW
    "TRANSPOSE_CONV": (3, 0, 1, 2),  # OHWI -> IOHW
    "FULLY_CONNECTED": (1, 0),  # (out, in) -> (in, out)
}


def read_back(folder: Path, artifact: Artifact) -> ReadBack:
    """Grids of every canonical activation and the int8 weights. A float32 artifact has neither.

    Raises ArtifactError where the file is missing, changed, truncated or not written by this package.
    """
    file = read_model(folder, artifact)
    activations: dict[str, Grid] = {}
    for name, held in file.canonical.items():
        if (grid := _grid(file.tensors[held.index])) is not None:
            activations[name] = grid
    weights: dict[str, tuple[NDArray[np.int8], Grid]] = {}
    for operator in file.operators:
        code = file.code(operator)
        if code not in WEIGHT_INPUT:
            continue
        tensor = file.tensors[operator.inputs[WEIGHT_INPUT[code]]]
        values = file.constant(int(operator.inputs[WEIGHT_INPUT[code]]))
        grid = _grid(tensor)
        if values is None:
            raise ArtifactError(f"{artifact.path}: weight {tensor.name.decode()!r} has no payload; export it again")
        if grid is not None:
            weights[tensor.name.decode()] = np.ascontiguousarray(values.transpose(CANONICAL_ORDER[code])), grid
    return ReadBack(activations, weights, {})


def _grid(tensor: Any) -> Grid | None:
    """The grid of a tensor: scale () or (channels,), None for a float one."""
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or len(quantization.scale) == 0:
        return None
    scale = np.asarray(quantization.scale, np.float32)
    return Grid(scale if scale.size > 1 else scale.reshape(()), int(quantization.zeroPoint[0]))
