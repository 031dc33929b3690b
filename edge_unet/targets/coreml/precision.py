"""Which ops of a program stay in float32."""

from __future__ import annotations

from typing import Any

from edge_unet.targets.coreml.names import NameTable


def in_float32(names: NameTable, op: Any) -> bool:
    """Whether a MIL op computes in float32: a float island's, and the quantizers at its border."""
    if op.op_type == "dequantize":
        return all(names.island(reader) is not None for reader in op.outputs[0].child_ops)
    if op.op_type == "quantize":
        maker = op.inputs["input"].op
        return maker is not None and names.island(maker) is not None
    return names.island(op) is not None
