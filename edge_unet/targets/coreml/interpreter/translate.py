"""MIL function -> ONNX model, op by op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from edge_unet.core.errors import GraphError
from edge_unet.core.registry import registry
from edge_unet.targets.coreml.interpreter import pointwise, reducing, shaping, windowed
from edge_unet.targets.coreml.interpreter.writer import Writer
from edge_unet.targets.coreml.names import NameTable, base_name

Op = Callable[[Writer, Any], list[str]]

OPS = registry(
    [
        ("add", pointwise.add),
        ("avg_pool", windowed.avg_pool),
        ("cast", pointwise.cast),
        ("clip", pointwise.clip),
        ("concat", shaping.concat),
        ("constexpr_affine_dequantize", pointwise.constexpr),
        ("constexpr_blockwise_shift_scale", pointwise.constexpr),
        ("conv", windowed.conv),
        ("conv_transpose", windowed.conv_transpose),
        ("dequantize", pointwise.dequantize),
        ("erf", pointwise.erf),
        ("exp", pointwise.exp),
        ("gather", shaping.gather),
        ("gelu", pointwise.gelu),
        ("identity", pointwise.identity),
        ("layer_norm", pointwise.layer_norm),
        ("log", pointwise.log),
        ("matmul", pointwise.matmul),
        ("max_pool", windowed.max_pool),
        ("mul", pointwise.mul),
        ("pad", windowed.pad),
        ("quantize", pointwise.quantize),
        ("real_div", pointwise.real_div),
        ("reduce_max", reducing.reduce_max),
        ("reduce_mean", reducing.reduce_mean),
        ("reduce_sum", reducing.reduce_sum),
        ("relu", pointwise.relu),
        ("relu6", pointwise.relu6),
        ("reshape", shaping.reshape),
        ("resize_bilinear", windowed.resize_bilinear),
        ("reverse", shaping.reverse),
        ("sigmoid", pointwise.sigmoid),
        ("sigmoid_hard", pointwise.sigmoid_hard),
        ("silu", pointwise.silu),
        ("slice_by_index", shaping.slice_by_index),
        ("softmax", pointwise.softmax),
        ("softplus", pointwise.softplus),
        ("split", shaping.split),
        ("sqrt", pointwise.sqrt),
        ("sub", pointwise.sub),
        ("tanh", pointwise.tanh),
        ("tile", shaping.tile),
        ("transpose", shaping.transpose),
        ("upsample_bilinear", windowed.upsample_bilinear),
        ("upsample_nearest_neighbor", windowed.upsample_nearest_neighbor),
    ]
)


@dataclass(frozen=True)
class Translation:
    """The ONNX twin of a package. Input `image` is raw pixels, (1, H, W, C) u8.

    `codes`: canonical name -> ONNX output with the codes of that tensor, computed before any forcing.
    `forced`: canonical name -> ONNX input that stands in for the codes from there on.
    """

    model: onnx.ModelProto
    image: str
    outputs: tuple[str, ...]
    codes: Mapping[str, str]
    forced: Mapping[str, str]


def translate(function: Any, names: NameTable, forced: Iterable[str] = (), *, fused: bool = False) -> Translation:
    """Translate the MIL function of an image-taking package.

    The codes of the quantize ops that `names` lists become outputs. The codes of each canonical name in `forced` are
    read from an extra input instead. With `fused`, the ops between two quantizers are one integer kernel, which rounds
    once; a float island is none. Raises GraphError on an unknown MIL op.
    """
    writer, wanted = Writer(), frozenset(forced)
    ((entry, variable),) = function.inputs.items()
    batch, channels, height, width = variable.shape
    inputs: list[tuple[str, int, tuple[int, ...]]] = [(entry, TensorProto.UINT8, (batch, height, width, channels))]
    (planes,) = writer.emit("Transpose", [entry], {"perm": [0, 3, 1, 2]})  # (1, C, H, W)
    (pixels,) = writer.emit("Cast", [planes], {"to": TensorProto.FLOAT})
    writer.store(variable, pixels)
    outputs: dict[str, tuple[str, int]] = {}
    codes: dict[str, str] = {}
    stand_ins: dict[str, str] = {}
    for op in function.operations:
        if op.op_type == "const":
            continue
        in_memory = not fused or op.op_type == "cast" or names.island(op) is not None
        for output, tensor in zip(op.outputs, _emit(writer, op), strict=True):
            writer.store(output, tensor, in_memory=in_memory)
        canonical = names.activations.get(base_name(op.outputs[0].name)) if op.op_type == "quantize" else None
        if canonical is None:
            continue
        name = op.outputs[0].name
        kind = TensorProto.INT8 if pointwise.grid(op)[1].dtype == np.int8 else TensorProto.UINT8
        codes[canonical] = f"codes:{canonical}"
        outputs[codes[canonical]] = (writer.tensors[name], kind)
        if canonical in wanted:
            stand_ins[canonical] = f"force:{canonical}"
            inputs.append((stand_ins[canonical], kind, tuple(op.outputs[0].shape)))
            writer.tensors[name] = stand_ins[canonical]
    results = tuple(output.name for output in function.outputs)
    outputs.update({output.name: (writer.tensor(output), TensorProto.FLOAT) for output in function.outputs})
    return Translation(writer.model(inputs, outputs), entry, results, codes, stand_ins)


def _emit(writer: Writer, op: Any) -> list[str]:
    function: Op | None = OPS.get(op.op_type)
    if function is None:
        raise GraphError(
            f"no interpretation of MIL op {op.op_type!r} ({op.name!r}); known ops: {', '.join(OPS)}; "
            "add a function to edge_unet/targets/coreml/interpreter"
        )
    return function(writer, op)
