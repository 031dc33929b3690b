"""MIL reductions in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_unet.targets.coreml.interpreter.writer import Writer, integers, setting


def reduce_max(writer: Writer, op: Any) -> list[str]:
    """reduce_max -> ReduceMax."""
    return _reduce(writer, op, "ReduceMax")


def reduce_mean(writer: Writer, op: Any) -> list[str]:
    """reduce_mean -> ReduceMean."""
    return _reduce(writer, op, "ReduceMean")


def reduce_sum(writer: Writer, op: Any) -> list[str]:
    """reduce_sum -> ReduceSum."""
    return _reduce(writer, op, "ReduceSum")


def _reduce(writer: Writer, op: Any, kind: str) -> list[str]:
    axes = writer.array(np.asarray(integers(op, "axes", range(len(op.inputs["x"].shape))), np.int64))
    keep = int(bool(setting(op, "keep_dims", False)))
    return writer.emit(kind, [writer.operand(op, "x"), axes], {"keepdims": keep})
