"""Which ops of a program stay in float32.

In a W8A8 package a float island computes in float32, and so do the quantizers at its border. With islands in fp16 up
to 0.8 % of the codes that leave one move by a step, and over the 23 islands of an untrained U-Net v2 (tiny, 128x128)
7.7 % of the mask's pixels turn; with float32 none do, in the model of fused kernels (docs/decisions/0006). The price:
the Neural Engine has no float32, so islands run on the GPU or the CPU. Where an iPhone shows that to be too dear, lower
with islands in float16. In an FP16 package islands are fp16 like all else: float32 gave no better masks (U-Net v2
99.96 % either way; the error of a scan over 256 places falls from 1.1e-3 to 0.6e-3), and the network stays whole on the
Neural Engine.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import numpy as np

from edge_unet.canonical import CanonicalGraph
from edge_unet.core.spec import Precision
from edge_unet.targets.coreml.names import NameTable

_INFINITE = 1e38


class IslandPrecision(str, Enum):
    """What float islands compute in."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"


DEFAULT = {Precision.INT8: IslandPrecision.FLOAT32, Precision.FP16: IslandPrecision.FLOAT16}


def in_float32(names: NameTable, islands: IslandPrecision, op: Any) -> bool:
    """Whether a MIL op computes in float32: one of an island, or a quantizer between it and the integers."""
    if islands is IslandPrecision.FLOAT16:
        return False
    if op.op_type == "dequantize":
        return all(names.island(reader) is not None for reader in op.outputs[0].child_ops)
    if op.op_type == "quantize":
        maker = op.inputs["input"].op
        return maker is not None and names.island(maker) is not None
    return names.island(op) is not None


def fp16_overflow(graph: CanonicalGraph, islands: IslandPrecision) -> str | None:
    """The first float constant of an fp16 op that fp16 cannot hold, or None. Beyond 1e38 a constant means infinity (a
    Clip without an upper bound), which fp16 has."""
    limit = float(np.finfo(np.float16).max)
    for name, array in graph.constants.items():
        if array.dtype.kind == "f" and np.any((np.abs(array) > limit) & (np.abs(array) < _INFINITE)):
            readers = graph.consumers.get(name, ())
            if islands is IslandPrecision.FLOAT16 or any(graph.island(reader) is None for reader in readers):
                return name
    return None
