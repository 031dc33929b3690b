"""Quantize-dequantize as two torch operators, so that torch.export carries them whole into ONNX.

edge::qdq becomes QuantizeLinear + DequantizeLinear, edge::dequantize_weight becomes one DequantizeLinear.
torch's own fake-quantize operators cannot be used: their exporter refuses the grid [-127, 127].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from edge_unet.core.errors import GraphError

OPSET = 21


@torch.library.custom_op("edge::qdq", mutates_args=())
def qdq(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Real `x` -> its nearest grid values, any shape. The dtype of `zero_point` (int8, uint8) is that of the codes.

    Rounding is half to even and division is true division, as in ONNX QuantizeLinear.
    """
    limits = torch.iinfo(zero_point.dtype)
    offset = zero_point.to(torch.int32)
    codes = torch.clamp(torch.round(x / scale).to(torch.int32) + offset, limits.min, limits.max)
    return (codes - offset).to(x.dtype) * scale


@qdq.register_fake
def _qdq_shape(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("edge::dequantize_weight", mutates_args=())
def dequantize_weight(codes: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    """int8 codes -> float32 weights, one scale per index of `axis`."""
    shape = [1] * codes.dim()
    shape[axis] = -1
    real = codes.to(torch.int32) - zero_point.to(torch.int32).view(shape)
    return real.to(torch.float32) * scale.view(shape)


@dequantize_weight.register_fake
def _dequantize_shape(codes: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    return torch.empty_like(codes, dtype=torch.float32)


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The ONNX translation of both operators, for torch.onnx.export(custom_translation_table=...).

    Softplus is one op too: torch's translation adds a Where that returns x above 20, which is the same number.
    """
    from onnxscript.values import Opset

    op = Opset("", OPSET)

    def qdq_to_onnx(x: Any, scale: Any, zero_point: Any) -> Any:
        return op.DequantizeLinear(op.QuantizeLinear(x, scale, zero_point), scale, zero_point)

    def dequantize_weight_to_onnx(codes: Any, scale: Any, zero_point: Any, axis: int) -> Any:
        return op.DequantizeLinear(codes, scale, zero_point, axis=axis)

    def softplus_to_onnx(x: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
        if beta != 1.0:
            raise GraphError(f"softplus with beta={beta} has no ONNX op; expected 1")
        return op.Softplus(x)

    return {
        torch.ops.aten.softplus.default: softplus_to_onnx,
        torch.ops.edge.qdq.default: qdq_to_onnx,
        torch.ops.edge.dequantize_weight.default: dequantize_weight_to_onnx,
    }
