"""QuantizeLinear and DequantizeLinear: quantize / dequantize for activations, constexpr_* for weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.coreml.build import Build, Deployment, WeightStorage
from edge_unet.targets.coreml.names import WeightName

_SMALLEST_NORMAL = 2.0**-14  # fp16; a subnormal scale loses bits


def quantize_linear(build: Build, node: Node) -> Any:
    """QuantizeLinear(x, scale, zero_point) of an activation, per tensor: int8 or uint8 codes."""
    scale, zero = _activation_grid(build, node)
    build.activations[build.title(node)] = node.output
    given = {"zero_point": zero} if zero != 0 else {}  # without it the op is symmetric and the compiler's fast case
    return build.mil.quantize(
        input=build.operand(node, 0), scale=scale, output_dtype=str(zero.dtype), name=build.title(node), **given
    )


def dequantize_linear(build: Build, node: Node) -> Any:
    """DequantizeLinear(q, scale, zero_point): an activation, or a constant weight (then a constexpr op)."""
    if node.inputs[0] in build.graph.constants:
        return _weight(build, node)
    scale, zero = _activation_grid(build, node)
    given = {"zero_point": zero} if zero != 0 else {}
    return build.mil.dequantize(input=build.operand(node, 0), scale=scale, name=build.title(node), **given)


def _activation_grid(build: Build, node: Node) -> tuple[np.float32, Any]:
    """(scale, zero point) of a per-tensor Q or DQ; the zero point has the dtype of the codes."""
    scale = build.constant(node, 1)
    zero = build.constant(node, 2)
    if scale is None or scale.size != 1:
        raise build.refuse(node, "scale", "one value per tensor", "none" if scale is None else f"{scale.size} values")
    zero = np.zeros((), np.uint8) if zero is None else zero.reshape(())
    if zero.dtype not in (np.int8, np.uint8):
        raise build.refuse(node, "codes", "int8 or uint8", zero.dtype)
    _check_scales(node, scale)
    return np.float32(scale.reshape(())), zero[()]


def _check_scales(node: Node, scale: NDArray[Any]) -> None:
    """The package stores scales in fp16. A scale that fp16 would change breaks 'one set of integers'."""
    stored = scale.astype(np.float16).astype(np.float32)
    if not np.array_equal(stored, scale.astype(np.float32)) or float(scale.min()) < _SMALLEST_NORMAL:
        bad = scale.reshape(-1)[(stored != scale).reshape(-1) | (scale < _SMALLEST_NORMAL).reshape(-1)][0]
        raise GraphError(
            f"Core ML: node {node.name!r} ({node.op}): scale {float(bad)!r} of {node.inputs[0]!r} changes in fp16 "
            f"(to {float(np.float16(bad))!r}); expected scales snapped to fp16 and at least 2^-14: "
            "quantize the checkpoint again"
        )


def _weight(build: Build, node: Node) -> Any:
    """An int8 weight: stays int8 (or uint8 with zero point 127) in the package."""
    weight = build.graph.weights[node.output]
    scale = weight.grid.scale
    _check_scales(node, scale)
    if weight.values.dtype != np.int8 or weight.grid.zero_point != 0 or weight.values.ndim == 0:
        raise build.refuse(node, "weight", "an int8 array with zero point 0", weight.values.dtype)
    values: NDArray[Any] = weight.values
    zero: Any = np.int8(0)
    if build.weight_storage is WeightStorage.UINT8:
        if int(values.min()) < -127:
            raise build.refuse(node, "weight for uint8 storage", "codes in [-127, 127]", int(values.min()))
        values, zero = (values.astype(np.int16) + 127).astype(np.uint8), np.uint8(127)
    name = build.names.mil(weight.name)
    build.weights[name] = WeightName(name=weight.name, per_channel=scale.ndim == 1)
    if build.deployment is Deployment.IOS17:
        axis = np.int32(weight.axis if scale.ndim else 0)
        stored_scale = scale if scale.size > 1 else np.float32(scale.reshape(()))
        return build.mil.constexpr_affine_dequantize(
            quantized_data=values, zero_point=zero, scale=stored_scale, axis=axis, name=name
        )
    shape = [1] * values.ndim
    if scale.size > 1:
        shape[weight.axis] = -1
    blocks = scale.reshape(shape)  # (O, 1, 1, 1) for Conv
    offset = {"offset": np.full(blocks.shape, zero)} if zero else {}
    return build.mil.constexpr_blockwise_shift_scale(data=values, scale=blocks, name=name, **offset)
