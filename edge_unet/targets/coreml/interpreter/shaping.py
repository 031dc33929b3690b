"""MIL ops that move values, in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_unet.targets.coreml.interpreter.writer import Writer, integers, refuse, setting


def concat(writer: Writer, op: Any) -> list[str]:
    """concat -> Concat."""
    if setting(op, "interleave", False):
        raise refuse(op, "interleave", True)
    values = [writer.tensor(value) for value in op.inputs["values"]]
    return writer.emit("Concat", values, {"axis": int(setting(op, "axis", None))})


def reshape(writer: Writer, op: Any) -> list[str]:
    """reshape -> Reshape to the static shape."""
    shape = writer.array(np.asarray(op.outputs[0].shape, np.int64))
    return writer.emit("Reshape", [writer.operand(op, "x"), shape])


def transpose(writer: Writer, op: Any) -> list[str]:
    """transpose -> Transpose."""
    return writer.emit("Transpose", [writer.operand(op, "x")], {"perm": integers(op, "perm", ())})


def slice_by_index(writer: Writer, op: Any) -> list[str]:
    """slice_by_index with plain forward bounds -> Slice."""
    rank = len(op.inputs["x"].shape)
    for mask in ("begin_mask", "end_mask", "squeeze_mask"):
        if np.any(setting(op, mask, False)):
            raise refuse(op, mask, setting(op, mask, False))
    bounds = [integers(op, "begin", ()), integers(op, "end", ()), list(range(rank)), integers(op, "stride", [1] * rank)]
    return writer.emit("Slice", [writer.operand(op, "x"), *(writer.array(np.asarray(b, np.int64)) for b in bounds)])


def split(writer: Writer, op: Any) -> list[str]:
    """split into given sizes -> Split."""
    axis = int(setting(op, "axis", None))
    sizes = writer.array(np.asarray([output.shape[axis] for output in op.outputs], np.int64))
    return writer.emit("Split", [writer.operand(op, "x"), sizes], {"axis": axis}, outputs=len(op.outputs))


def reverse(writer: Writer, op: Any) -> list[str]:
    """reverse -> Slice with step -1."""
    rank = len(op.inputs["x"].shape)
    axes = [axis % rank for axis in integers(op, "axes", range(rank))]
    before_first = np.iinfo(np.int64).min
    bounds = [[-1] * len(axes), [before_first] * len(axes), axes, [-1] * len(axes)]
    return writer.emit("Slice", [writer.operand(op, "x"), *(writer.array(np.asarray(b, np.int64)) for b in bounds)])


def tile(writer: Writer, op: Any) -> list[str]:
    """tile -> Tile."""
    return writer.emit("Tile", [writer.operand(op, "x"), writer.array(np.asarray(integers(op, "reps", ()), np.int64))])


def gather(writer: Writer, op: Any) -> list[str]:
    """gather with constant indices -> Gather."""
    if int(setting(op, "batch_dims", 0)) != 0:
        raise refuse(op, "batch_dims", setting(op, "batch_dims", 0))
    indices = writer.array(np.asarray(setting(op, "indices", None), np.int64))
    return writer.emit("Gather", [writer.operand(op, "x"), indices], {"axis": int(setting(op, "axis", 0))})
