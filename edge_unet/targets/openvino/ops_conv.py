"""Convolutions and pools as OpenVINO operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_unet.canonical import Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.openvino.ir import MARK, IrGraph


def _spatial(node: Node) -> tuple[list[int], list[int], list[int], list[int]]:
    """(strides, pads before, pads after, dilations) of a conv."""
    if node.attributes.get("auto_pad", "NOTSET") != "NOTSET":
        raise GraphError(f"node {node.name!r} ({node.op}): auto_pad is not supported; export with explicit pads")
    pads = node.ints("pads", (0, 0, 0, 0))
    return list(node.ints("strides", (1, 1))), list(pads[:2]), list(pads[2:]), list(node.ints("dilations", (1, 1)))


NOTHING = 2.0**-100
"""Far below half of the last bit of any sum that it is added to."""


def _biased(node: Node, made: Any, ir: IrGraph) -> None:
    """Name the conv as its node and add its bias.

    An INT8 conv has one always. Where it is the same in every channel the plugin folds the weights' scale and the bias
    into the bounds of the FakeQuantize behind, which are then divided by the scale: by 7 * 2**n that is not exact, and
    a sum half-way between two codes goes the wrong way (seen in 2026.4). Zeros become numbers that add nothing but
    differ from channel to channel; behind another such bias a PReLU of slope 1, which changes no value, keeps the
    scale where it is. An activation in between does so by itself.
    """
    ir.put(node, made)
    channels = ir.graph.shapes[node.output][1]
    name = node.inputs[2] if len(node.inputs) > 2 else f"{node.name}{MARK}bias"
    bias = ir.graph.constant(name, node) if len(node.inputs) > 2 else np.zeros(channels, np.float32)
    int8 = node.inputs[1] in ir.graph.weights
    if int8 and not bias.any():
        bias = np.where(np.arange(channels) % 2, NOTHING, 2 * NOTHING).astype(np.float32)
    elif len(node.inputs) < 3:
        return
    biased = ir.ops.add(made, ir.name(ir.ops.constant(bias.reshape(1, -1, 1, 1)), name))  # (1, C, 1, 1)
    rounded_next = any(reader.op == "QuantizeLinear" for reader in ir.graph.consumers.get(node.output, ()))
    if int8 and rounded_next and (bias == bias[0]).all():
        biased = ir.ops.prelu(biased, np.array([1], np.float32))
    ir.put(node, biased, f"{node.name}{MARK}biased")


def Conv(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """2-D convolution; grouped where group > 1."""
    strides, before, after, dilations = _spatial(node)
    groups = int(node.attributes.get("group", 1))
    cout, cin, *kernel = _weight_shape(node, ir)
    shape = (cout, cin, *kernel) if groups == 1 else (groups, cout // groups, cin, *kernel)
    weight = ir.weight(node.inputs[1], node, shape)
    make = ir.ops.convolution if groups == 1 else ir.ops.group_convolution
    _biased(node, make(ir.value(node.inputs[0], node), weight, strides, before, after, dilations), ir)


def ConvTranspose(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """2-D transposed convolution without groups (weights IOHW in both formats)."""
    if int(node.attributes.get("group", 1)) != 1 or any(node.ints("output_padding", (0, 0))):
        raise GraphError(f"node {node.name!r} (ConvTranspose): expected group 1 and no output_padding")
    strides, before, after, dilations = _spatial(node)
    weight = ir.weight(node.inputs[1], node, _weight_shape(node, ir))
    made = ir.ops.convolution_backprop_data(
        ir.value(node.inputs[0], node), weight, strides, pads_begin=before, pads_end=after, dilations=dilations
    )
    _biased(node, made, ir)


def _weight_shape(node: Node, ir: IrGraph) -> tuple[int, ...]:
    """Shape of a conv's weight, which must be 2-D and constant."""
    name = node.inputs[1]
    weight = ir.graph.weights.get(name)
    shape = weight.values.shape if weight is not None else ir.graph.constant(name, node).shape
    if len(shape) != 4:
        raise GraphError(f"node {node.name!r} ({node.op}): expected a 2-D kernel, received weight shape {shape}")
    return tuple(int(size) for size in shape)


def MaxPool(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """2-D max pooling without dilation."""
    strides, before, after, dilations = _spatial(node)
    if dilations != [1, 1]:
        raise GraphError(f"node {node.name!r} (MaxPool): expected dilations 1, received {dilations}")
    x, kernel = ir.value(node.inputs[0], node), list(node.ints("kernel_shape", ()))
    ir.put(node, ir.first_ops.max_pool(x, strides, before, after, kernel, _rounding(node)))


def AveragePool(node: Node, ir: IrGraph) -> None:  # noqa: N802
    """2-D average pooling."""
    strides, before, after, _ = _spatial(node)
    kernel, rounding = list(node.ints("kernel_shape", ())), _rounding(node)
    exclude = not int(node.attributes.get("count_include_pad", 0))
    ir.put(node, ir.ops.avg_pool(ir.value(node.inputs[0], node), strides, before, after, kernel, exclude, rounding))


def _rounding(node: Node) -> str:
    return "ceil" if int(node.attributes.get("ceil_mode", 0)) else "floor"
