"""Ops that move values without computing: concat, pad, slice, transpose, reshape, split. Shapes are static."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_unet.canonical import Node
from edge_unet.targets.coreml.build import Build


def concat(build: Build, node: Node) -> Any:
    """Concat along `axis`."""
    values = [build.operand(node, index) for index in range(len(node.inputs))]
    return build.mil.concat(values=values, axis=int(node.attributes["axis"]), name=build.title(node))


def identity(build: Build, node: Node) -> Any:
    """Identity."""
    return build.mil.identity(x=build.operand(node, 0), name=build.title(node))


def reshape(build: Build, node: Node) -> Any:
    """Reshape, Flatten, Squeeze, Unsqueeze: all are a reshape to the inferred static shape."""
    return build.mil.reshape(x=build.operand(node, 0), shape=list(build.shape(node.output)), name=build.title(node))


def transpose(build: Build, node: Node) -> Any:
    """Transpose by `perm`; without it the axes are reversed."""
    rank = len(build.shape(node.inputs[0]))
    perm = list(node.ints("perm", tuple(reversed(range(rank)))))
    return build.mil.transpose(x=build.operand(node, 0), perm=perm, name=build.title(node))


def pad(build: Build, node: Node) -> Any:
    """Pad by constant amounts: constant, reflect or edge."""
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    mode = node.attributes.get("mode", "constant")
    amounts = build.constant(node, 1)
    if mode not in modes or amounts is None:
        raise build.refuse(node, "mode", ", ".join(modes), mode)
    rank = len(build.shape(node.inputs[0]))
    axes = build.constant(node, 3)
    order = range(rank) if axes is None else [int(a) % rank for a in axes]
    flat = [0] * (2 * rank)
    for index, axis in enumerate(order):
        flat[2 * axis], flat[2 * axis + 1] = int(amounts[index]), int(amounts[index + len(order)])
    if min(flat) < 0 or (mode != "constant" and any(flat[:-4])):
        raise build.refuse(node, "pads", "amounts >= 0, and only of the last two axes unless constant", flat)
    fill = build.constant(node, 2)
    value = np.float32(0 if fill is None else float(fill.reshape(())))
    if mode != "constant":
        flat = flat[-4:]  # MIL pads the trailing axes when it is given fewer amounts
    return build.mil.pad(
        x=build.operand(node, 0), pad=flat, mode=modes[mode], constant_val=value, name=build.title(node)
    )


def slice_(build: Build, node: Node) -> Any:
    """Slice with constant, forward bounds."""
    shape = build.shape(node.inputs[0])
    starts, ends, axes, steps = (build.constant(node, index) for index in (1, 2, 3, 4))
    if starts is None or ends is None:
        raise build.refuse(node, "bounds", "constant starts and ends", "none")
    order = [int(a) % len(shape) for a in (range(len(starts)) if axes is None else axes)]
    strides = [1] * len(order) if steps is None else [int(s) for s in steps]
    if min(strides) < 1:
        raise build.refuse(node, "steps", "positive", strides)
    begin, end, stride = [0] * len(shape), list(shape), [1] * len(shape)
    for axis, start, stop, step in zip(order, starts, ends, strides, strict=True):
        begin[axis], end[axis], stride[axis] = slice(int(start), int(stop), step).indices(shape[axis])
    return build.mil.slice_by_index(
        x=build.operand(node, 0), begin=begin, end=end, stride=stride, name=build.title(node)
    )


def split(build: Build, node: Node) -> Any:
    """Split along `axis` into the inferred sizes."""
    rank = len(build.shape(node.inputs[0]))
    axis = int(node.attributes.get("axis", 0)) % rank
    sizes = [build.shape(output)[axis] for output in node.outputs]
    name = build.names.mil(node.outputs[0])
    return tuple(build.mil.split(x=build.operand(node, 0), split_sizes=sizes, axis=axis, name=name))
