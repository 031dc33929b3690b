"""Layers of a saved package by precision, from its own structure."""

from __future__ import annotations

from typing import Any

from edge_unet.core.artifact import Census, LayerPlacement
from edge_unet.targets.coreml.interpreter.writer import is_fp16

SOURCE = "interpreter of the saved package: MIL structure, not where the Neural Engine places a layer"
_NOT_LAYERS = frozenset({"const", "cast", "identity", "quantize", "dequantize", "reshape"})
_ACTIVATIONS = frozenset({"relu", "relu6", "clip"})


def take_census(function: Any) -> Census:
    """A layer is INT8 where all its activations come from dequantize and its result, after at most an activation
    function, goes only into quantize: the pattern Core ML computes in integers on the units that can."""
    layers = []
    for op in function.operations:
        if op.op_type in _NOT_LAYERS or op.op_type.startswith("constexpr") or _belongs_to_producer(op):
            continue
        declared = "fp16" if is_fp16(op.outputs[0]) else "fp32"
        precision = "int8" if _reads_codes(op) and _writes_codes(op.outputs[0]) else declared
        layers.append(LayerPlacement(name=op.name, op=op.op_type, precision=precision, unit=f"MIL {op.op_type}"))
    return Census(layers=tuple(layers), source=SOURCE)


def _belongs_to_producer(op: Any) -> bool:
    """An activation function right after a layer that nothing else reads is part of that layer."""
    if op.op_type not in _ACTIVATIONS:
        return False
    producer = op.inputs["x"].op
    return producer is not None and producer.op_type not in _NOT_LAYERS and len(op.inputs["x"].child_ops) == 1


def _reads_codes(op: Any) -> bool:
    flat = [v for value in op.inputs.values() for v in (value if isinstance(value, (list, tuple)) else (value,))]
    tensors = [v for v in flat if v is not None and v.val is None and not _constant(v)]
    return bool(tensors) and all(v.op is not None and v.op.op_type == "dequantize" for v in tensors)


def _constant(variable: Any) -> bool:
    return variable.op is not None and (variable.op.op_type == "const" or variable.op.op_type.startswith("constexpr"))


def _writes_codes(variable: Any) -> bool:
    readers = list(variable.child_ops)
    if len(readers) == 1 and readers[0].op_type in _ACTIVATIONS:
        return _writes_codes(readers[0].outputs[0])
    return bool(readers) and all(reader.op_type == "quantize" for reader in readers)
