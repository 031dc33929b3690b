"""Scales and integers as they stand in a saved package, under the canonical graph's names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.artifact import Artifact, Grid, ReadBack
from edge_unet.core.errors import ArtifactError
from edge_unet.targets.coreml.interpreter.pointwise import grid
from edge_unet.targets.coreml.names import base_name
from edge_unet.targets.coreml.package import load_package

_GONE = "the passes of coremltools removed it: no quantize op of that name is in the package"


def read_back(folder: Path, artifact: Artifact) -> ReadBack:
    """Read the quantize ops and constexpr weights of the package in `folder`.

    Scales are returned as stored (fp16 widened to float32), so equality with the canonical graph proves that storage
    changed none. uint8 weights with zero point 127 come back as the int8 they stand for. A package without Q/DQ
    (FP16) gives an empty ReadBack. Raises ArtifactError on damage, on a weight that is gone, or where a dequantize op
    has another grid than the quantize op it reads.
    """
    package = load_package(folder, artifact)
    activations: dict[str, Grid] = {}
    weights: dict[str, tuple[NDArray[np.int8], Grid]] = {}
    for op in package.main.operations:
        base = base_name(op.outputs[0].name)
        if op.op_type == "quantize" and base in package.names.activations:
            activations[package.names.activations[base]] = _activation(op, package.path)
        elif op.op_type.startswith("constexpr") and base in package.names.weights:
            name = package.names.weights[base]
            weights[name.name] = _weight(op, name.per_channel)
    lost = sorted({w.name for w in package.names.weights.values()} - set(weights))
    if lost:
        raise ArtifactError(f"{package.path}: no constexpr op for weight {', '.join(lost)}; export the model again")
    absent = {name: _GONE for name in package.names.activations.values() if name not in activations}
    return ReadBack(activations=activations, weights=weights, absent=absent)


def _activation(op: Any, path: Path) -> Grid:
    """The grid of a quantize op, which every dequantize op behind it must share."""
    scale, zero = grid(op)
    for reader in op.outputs[0].child_ops:
        if reader.op_type == "dequantize":
            other_scale, other_zero = grid(reader)
            if other_scale != scale or other_zero != zero:
                raise ArtifactError(
                    f"{path}: {reader.name!r} dequantizes with scale {float(other_scale)!r} what {op.name!r} "
                    f"quantizes with {float(scale)!r}; export the model again"
                )
    return Grid(scale, int(zero))


def _weight(op: Any, per_channel: bool) -> tuple[NDArray[np.int8], Grid]:
    """Payload and scales of a constexpr weight, int8 around zero."""
    old = op.op_type == "constexpr_affine_dequantize"
    stored = np.asarray(op.inputs["quantized_data" if old else "data"].val)
    offset = op.inputs.get("zero_point" if old else "offset")
    zero = 0 if offset is None else int(np.asarray(offset.val).reshape(-1)[0])
    scale = np.asarray(op.inputs["scale"].val, np.float32).reshape((-1,) if per_channel else ())
    return (stored.astype(np.int16) - zero).astype(np.int8), Grid(scale, 0)
