"""Layers of a saved package by precision, from its own structure."""

from __future__ import annotations

from typing import Any

from edge_unet.core.artifact import Census, LayerPlacement
from edge_unet.targets.coreml.interpreter.writer import is_fp16
from edge_unet.targets.coreml.package import Package

SOURCE = "interpreter of the saved package: MIL structure, not where the Neural Engine places a layer"
_NOT_LAYERS = frozenset(
    {"const", "cast", "identity", "quantize", "dequantize", "reshape", "transpose", "slice_by_index", "reverse"}
)
"""Ops that only change type, order or extent; other runtimes do not count those either."""
_ACTIVATIONS = frozenset({"relu", "relu6", "clip"})


def take_census(package: Package) -> Census:
    """A layer is INT8 where all its activations come from dequantize and its result, after at most an activation
    function, goes only into quantize: the pattern Core ML computes in integers on the units that can. A layer of a
    float island says so, with the island's path and reason, in its unit."""
    layers = []
    for op in package.main.operations:
        if op.op_type in _NOT_LAYERS or op.op_type.startswith("constexpr") or _belongs_to_another(op):
            continue
        path = package.names.island(op)
        declared = "fp16" if is_fp16(op.outputs[0]) else "fp32"
        integer = path is None and _reads_codes(op) and _writes_codes(op.outputs[0])
        why = "" if path is None else f", float island {path}: {package.islands.get(path, 'reason not recorded')}"
        unit = f"MIL {op.op_type}{why}"
        precision = "int8" if integer else declared
        layers.append(LayerPlacement(name=op.name, op=op.op_type, precision=precision, unit=unit))
    return Census(layers=tuple(layers), source=SOURCE)


def _belongs_to_another(op: Any) -> bool:
    """An activation function right after a layer that nothing else reads is part of that layer; so is the gate of a
    hard swish part of its product."""
    if op.op_type not in _ACTIVATIONS:
        return _is_gate(op)
    producer = op.inputs["x"].op
    return producer is not None and producer.op_type not in _NOT_LAYERS and len(op.inputs["x"].child_ops) == 1


def _is_gate(op: Any) -> bool:
    """Whether the op is the sigmoid_hard(x) of x * sigmoid_hard(x)."""
    if op is None or op.op_type != "sigmoid_hard":
        return False
    readers = op.outputs[0].child_ops
    return len(readers) == 1 and readers[0].op_type == "mul" and op.inputs["x"] in readers[0].inputs.values()


def _reads_codes(op: Any) -> bool:
    flat = [v for value in op.inputs.values() for v in (value if isinstance(value, (list, tuple)) else (value,))]
    tensors = [v for v in flat if v is not None and v.val is None and not _constant(v) and not _is_gate(v.op)]
    return bool(tensors) and all(v.op is not None and v.op.op_type == "dequantize" for v in tensors)


def _constant(variable: Any) -> bool:
    return variable.op is not None and (variable.op.op_type == "const" or variable.op.op_type.startswith("constexpr"))


def _writes_codes(variable: Any) -> bool:
    readers = list(variable.child_ops)
    if len(readers) == 1 and readers[0].op_type in _ACTIVATIONS:
        return _writes_codes(readers[0].outputs[0])
    return bool(readers) and all(reader.op_type == "quantize" for reader in readers)
