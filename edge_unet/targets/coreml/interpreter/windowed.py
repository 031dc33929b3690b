"""MIL convolutions, pools, resizes and pads in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_unet.targets.coreml.interpreter.writer import Writer, integers, refuse, setting


def conv(writer: Writer, op: Any) -> list[str]:
    """conv -> Conv."""
    return writer.emit("Conv", _operands(writer, op), _window(op))


def conv_transpose(writer: Writer, op: Any) -> list[str]:
    """conv_transpose -> ConvTranspose. The padding decides the size; a declared output_shape must agree with it."""
    stride, dilation = integers(op, "strides", (1, 1)), integers(op, "dilations", (1, 1))
    pad, kernel, before = _pad(op), op.inputs["weight"].shape[2:], op.inputs["x"].shape[2:]
    made = [(before[i] - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - pad[i] - pad[i + 2] for i in range(2)]
    if made != list(op.outputs[0].shape[2:]):
        raise refuse(op, "output_shape", op.outputs[0].shape)
    return writer.emit("ConvTranspose", _operands(writer, op), _window(op))


def _operands(writer: Writer, op: Any) -> list[str]:
    names = ("x", "weight", "bias") if op.inputs.get("bias") is not None else ("x", "weight")
    return [writer.operand(op, name) for name in names]


def _window(op: Any) -> dict[str, Any]:
    return {
        "strides": integers(op, "strides", (1, 1)),
        "dilations": integers(op, "dilations", (1, 1)),
        "group": int(setting(op, "groups", 1)),
        "pads": _pad(op),
    }


def _pad(op: Any) -> list[int]:
    """MIL (top, bottom, left, right) -> ONNX (top, left, bottom, right)."""
    kind = setting(op, "pad_type", "valid")
    if kind == "valid":
        return [0, 0, 0, 0]
    if kind != "custom":
        raise refuse(op, "pad_type", kind)
    top, bottom, left, right = integers(op, "pad", (0, 0, 0, 0))
    return [top, left, bottom, right]


def max_pool(writer: Writer, op: Any) -> list[str]:
    """max_pool -> MaxPool."""
    return writer.emit("MaxPool", [writer.operand(op, "x")], _pool(op))


def avg_pool(writer: Writer, op: Any) -> list[str]:
    """avg_pool -> AveragePool."""
    count = int(not setting(op, "exclude_padding_from_average", False))
    return writer.emit("AveragePool", [writer.operand(op, "x")], {**_pool(op), "count_include_pad": count})


def _pool(op: Any) -> dict[str, Any]:
    if setting(op, "ceil_mode", False):
        raise refuse(op, "ceil_mode", True)
    return {
        "kernel_shape": integers(op, "kernel_sizes", ()),
        "strides": integers(op, "strides", (1, 1)),
        "pads": _pad(op),
    }


def upsample_nearest_neighbor(writer: Writer, op: Any) -> list[str]:
    """upsample_nearest_neighbor -> Resize that repeats pixels."""
    return _resize(writer, op, {"mode": "nearest", "nearest_mode": "floor"}, "asymmetric")


def upsample_bilinear(writer: Writer, op: Any) -> list[str]:
    """upsample_bilinear -> linear Resize; align_corners False means half-pixel centres."""
    corners = bool(setting(op, "align_corners", True))
    return _resize(writer, op, {"mode": "linear"}, "align_corners" if corners else "half_pixel")


def resize_bilinear(writer: Writer, op: Any) -> list[str]:
    """resize_bilinear -> linear Resize; UNALIGN_CORNERS is half-pixel."""
    modes = {"UNALIGN_CORNERS": "half_pixel", "STRICT_ALIGN_CORNERS": "align_corners"}
    mode = setting(op, "sampling_mode", "DEFAULT")
    if mode not in modes:
        raise refuse(op, "sampling_mode", mode)
    return _resize(writer, op, {"mode": "linear"}, modes[mode])


def _resize(writer: Writer, op: Any, attributes: dict[str, Any], coordinates: str) -> list[str]:
    sizes = writer.array(np.asarray(op.outputs[0].shape, np.int64))
    chosen = {**attributes, "coordinate_transformation_mode": coordinates}
    return writer.emit("Resize", [writer.operand(op, "x"), "", "", sizes], chosen)


def pad(writer: Writer, op: Any) -> list[str]:
    """pad -> Pad; MIL pads the trailing axes, (before, after) per axis."""
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    amounts, rank = integers(op, "pad", ()), len(op.inputs["x"].shape)
    pairs = [(0, 0)] * (rank - len(amounts) // 2) + list(zip(amounts[::2], amounts[1::2], strict=True))
    order = [before for before, _ in pairs] + [after for _, after in pairs]
    value = writer.array(np.float32(setting(op, "constant_val", 0.0)).reshape(()))
    inputs = [writer.operand(op, "x"), writer.array(np.asarray(order, np.int64)), value]
    return writer.emit("Pad", inputs, {"mode": modes[setting(op, "mode", "constant")]})
