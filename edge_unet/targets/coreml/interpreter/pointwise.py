"""MIL quantization, activations, arithmetic and shape ops in ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_unet.targets.coreml.interpreter.writer import Writer, integers, refuse, setting


def constexpr(writer: Writer, op: Any) -> list[str]:
    """constexpr_*: the weight as coremltools itself decompresses it."""
    return [writer.array(np.asarray(op.materialized_val_inference()))]


def cast(writer: Writer, op: Any) -> list[str]:
    """cast between float types; the rounding happens where the result is stored."""
    kind = setting(op, "dtype", "fp32")
    if kind not in ("fp16", "fp32"):
        raise refuse(op, "dtype", kind)
    return [writer.operand(op, "x")]


def quantize(writer: Writer, op: Any) -> list[str]:
    """clip(round(x / scale) + zero_point), ties to even, division in float32."""
    scale, zero = grid(op)
    return writer.emit("QuantizeLinear", [writer.operand(op, "input"), writer.array(scale), writer.array(zero)])


def dequantize(writer: Writer, op: Any) -> list[str]:
    """(q - zero_point) * scale."""
    scale, zero = grid(op)
    return writer.emit("DequantizeLinear", [writer.operand(op, "input"), writer.array(scale), writer.array(zero)])


def grid(op: Any) -> tuple[Any, Any]:
    """(scale float32 (), zero point () in the dtype of the codes) of a quantize or dequantize op."""
    kind = np.dtype(setting(op, "output_dtype", None) or _codes_dtype(op))
    scale = np.asarray(setting(op, "scale", None), np.float32)
    if scale.size != 1:
        raise refuse(op, "scale of shape", scale.shape)
    return scale.reshape(()), np.asarray(setting(op, "zero_point", 0)).astype(kind).reshape(())


def _codes_dtype(op: Any) -> str:
    """The dtype of what a dequantize op reads."""
    from coremltools.converters.mil.mil import types

    return str(types.builtin_to_string(op.inputs["input"].dtype))


def identity(writer: Writer, op: Any) -> list[str]:
    """identity."""
    return [writer.operand(op, "x")]


def relu(writer: Writer, op: Any) -> list[str]:
    """relu -> Relu."""
    return writer.emit("Relu", [writer.operand(op, "x")])


def relu6(writer: Writer, op: Any) -> list[str]:
    """relu6 -> Clip(0, 6)."""
    return _clip(writer, writer.operand(op, "x"), 0.0, 6.0)


def clip(writer: Writer, op: Any) -> list[str]:
    """clip -> Clip(alpha, beta)."""
    return _clip(writer, writer.operand(op, "x"), float(setting(op, "alpha", None)), float(setting(op, "beta", None)))


def _clip(writer: Writer, tensor: str, low: float, high: float) -> list[str]:
    return writer.emit("Clip", [tensor, writer.array(np.float32(low)), writer.array(np.float32(high))])


def sigmoid(writer: Writer, op: Any) -> list[str]:
    """sigmoid -> Sigmoid."""
    return writer.emit("Sigmoid", [writer.operand(op, "x")])


def sigmoid_hard(writer: Writer, op: Any) -> list[str]:
    """sigmoid_hard -> HardSigmoid."""
    attributes = {"alpha": float(setting(op, "alpha", 0.2)), "beta": float(setting(op, "beta", 0.5))}
    return writer.emit("HardSigmoid", [writer.operand(op, "x")], attributes)


def silu(writer: Writer, op: Any) -> list[str]:
    """silu -> x * Sigmoid(x). coremltools writes it for that product when it saves an ML Program."""
    x = writer.operand(op, "x")
    return writer.emit("Mul", [x, *writer.emit("Sigmoid", [x])])


def tanh(writer: Writer, op: Any) -> list[str]:
    """tanh -> Tanh."""
    return writer.emit("Tanh", [writer.operand(op, "x")])


def erf(writer: Writer, op: Any) -> list[str]:
    """erf -> Erf."""
    return writer.emit("Erf", [writer.operand(op, "x")])


def gelu(writer: Writer, op: Any) -> list[str]:
    """gelu -> Gelu."""
    modes = {"EXACT": "none", "TANH_APPROXIMATION": "tanh"}
    mode = setting(op, "mode", "EXACT")
    if mode not in modes:
        raise refuse(op, "mode", mode)
    return writer.emit("Gelu", [writer.operand(op, "x")], {"approximate": modes[mode]})


def exp(writer: Writer, op: Any) -> list[str]:
    """exp -> Exp."""
    return writer.emit("Exp", [writer.operand(op, "x")])


def log(writer: Writer, op: Any) -> list[str]:
    """log -> Log; the epsilon of MIL must be the denormal that changes nothing."""
    epsilon = float(setting(op, "epsilon", 1e-45))
    if epsilon > np.finfo(np.float32).tiny:
        raise refuse(op, "epsilon", epsilon)
    return writer.emit("Log", [writer.operand(op, "x")])


def sqrt(writer: Writer, op: Any) -> list[str]:
    """sqrt -> Sqrt."""
    return writer.emit("Sqrt", [writer.operand(op, "x")])


def softplus(writer: Writer, op: Any) -> list[str]:
    """softplus -> Softplus."""
    return writer.emit("Softplus", [writer.operand(op, "x")])


def softmax(writer: Writer, op: Any) -> list[str]:
    """softmax -> Softmax."""
    return writer.emit("Softmax", [writer.operand(op, "x")], {"axis": int(setting(op, "axis", -1))})


def add(writer: Writer, op: Any) -> list[str]:
    """add -> Add."""
    return writer.emit("Add", [writer.operand(op, "x"), writer.operand(op, "y")])


def sub(writer: Writer, op: Any) -> list[str]:
    """sub -> Sub."""
    return writer.emit("Sub", [writer.operand(op, "x"), writer.operand(op, "y")])


def mul(writer: Writer, op: Any) -> list[str]:
    """mul -> Mul."""
    return writer.emit("Mul", [writer.operand(op, "x"), writer.operand(op, "y")])


def real_div(writer: Writer, op: Any) -> list[str]:
    """real_div -> Div."""
    return writer.emit("Div", [writer.operand(op, "x"), writer.operand(op, "y")])


def matmul(writer: Writer, op: Any) -> list[str]:
    """matmul -> MatMul, with the last two axes of an operand swapped where MIL says so."""
    operands = []
    for key in ("x", "y"):
        tensor, rank = writer.operand(op, key), len(op.inputs[key].shape)
        if setting(op, f"transpose_{key}", False):
            perm = [*range(rank - 2), rank - 1, rank - 2]
            (tensor,) = writer.emit("Transpose", [tensor], {"perm": perm})
        operands.append(tensor)
    return writer.emit("MatMul", operands)


def layer_norm(writer: Writer, op: Any) -> list[str]:
    """layer_norm over trailing axes -> LayerNormalization."""
    rank = len(op.inputs["x"].shape)
    axes = sorted(axis % rank for axis in integers(op, "axes", ()))
    if axes != list(range(axes[0], rank)):
        raise refuse(op, "axes", axes)
    attributes = {"axis": axes[0], "epsilon": float(setting(op, "epsilon", 1e-5))}
    return writer.emit("LayerNormalization", [writer.operand(op, key) for key in ("x", "gamma", "beta")], attributes)
