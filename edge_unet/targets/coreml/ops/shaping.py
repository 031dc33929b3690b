"""Ops that move values without computing: concat, pad, slice, transpose, reshape, split. Shapes are static."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_unet.canonical import Node
from edge_unet.targets.coreml.build import MAX_RANK, Build


def concat(build: Build, node: Node) -> Any:
    """Concat along `axis`."""
    values = [build.operand(node, index) for index in range(len(node.inputs))]
    return build.mil.concat(values=values, axis=int(node.attributes["axis"]), name=build.title(node))


def identity(build: Build, node: Node) -> Any:
    """Identity."""
    return build.mil.identity(x=build.operand(node, 0), name=build.title(node))


def reshape(build: Build, node: Node) -> Any:
    """Reshape, Flatten, Squeeze, Unsqueeze: all are a reshape to the inferred static shape.

    A shape of more than MAX_RANK axes loses axes of size 1, from the front; Transpose knows which."""
    shape = build.shape(node.output)
    units = [axis for axis, size in enumerate(shape) if size == 1]
    surplus = max(0, len(shape) - MAX_RANK)
    if surplus > len(units):
        raise build.refuse(node, "shape", f"at most {MAX_RANK} axes that are longer than 1", shape)
    build.folded[node.output] = tuple(units[:surplus])
    kept = [size for axis, size in enumerate(shape) if axis not in units[:surplus]]
    return build.mil.reshape(x=build.operand(node, 0), shape=kept, name=build.title(node))


def transpose(build: Build, node: Node) -> Any:
    """Transpose by `perm`; without it the axes are reversed."""
    rank, gone = len(build.shape(node.inputs[0])), build.folded.get(node.inputs[0], ())
    perm = node.ints("perm", tuple(reversed(range(rank))))
    build.folded[node.output] = tuple(axis for axis, source in enumerate(perm) if source in gone)
    kept = [axis for axis in range(rank) if axis not in gone]
    order = [kept.index(source) for source in perm if source in kept]
    return build.mil.transpose(x=build.operand(node, 0), perm=order, name=build.title(node))


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
    """Slice with constant bounds. A negative step is the same slice forwards and then reversed: MIL's own bounds for
    counting down depend on masks."""
    shape = build.shape(node.inputs[0])
    starts, ends, axes, steps = (build.constant(node, index) for index in (1, 2, 3, 4))
    if starts is None or ends is None:
        raise build.refuse(node, "bounds", "constant starts and ends", "none")
    order = [int(a) % len(shape) for a in (range(len(starts)) if axes is None else axes)]
    strides = [1] * len(order) if steps is None else [int(s) for s in steps]
    begin, end, stride, turned = [0] * len(shape), list(shape), [1] * len(shape), []
    for axis, start, stop, step in zip(order, starts, ends, strides, strict=True):
        kept = range(*slice(int(start), int(stop), step).indices(shape[axis]))
        if not kept:
            raise build.refuse(node, "bounds", "at least one index", f"{int(start)}:{int(stop)}:{step}")
        turned += [axis] if step < 0 else []
        begin[axis], end[axis], stride[axis] = min(kept), max(kept) + 1, abs(step)
    x, name = build.operand(node, 0), build.title(node)
    whole = (begin, end, stride) == ([0] * len(shape), list(shape), [1] * len(shape))
    if not (turned and whole):
        part = build.part(node, "forwards") if turned else name
        x = build.mil.slice_by_index(x=x, begin=begin, end=end, stride=stride, name=part)
    return build.mil.reverse(x=x, axes=turned, name=name) if turned else x


def split(build: Build, node: Node) -> Any:
    """Split along `axis` into the inferred sizes."""
    rank = len(build.shape(node.inputs[0]))
    axis = int(node.attributes.get("axis", 0)) % rank
    sizes = [build.shape(output)[axis] for output in node.outputs]
    name = build.part(node, node.outputs[0])
    return tuple(build.mil.split(x=build.operand(node, 0), split_sizes=sizes, axis=axis, name=name))


def expand(build: Build, node: Node) -> Any:
    """Expand to the inferred shape, as repetition along the axes of size 1."""
    before, after = build.shape(node.inputs[0]), build.shape(node.output)
    aligned = (1,) * (len(after) - len(before)) + before
    x, name = build.operand(node, 0), build.title(node)
    if aligned != before:
        x = build.mil.reshape(x=x, shape=list(aligned), name=build.part(node, "aligned"))
    reps = [size // old for size, old in zip(after, aligned, strict=True)]
    return build.mil.tile(x=x, reps=reps, name=name)


def tile(build: Build, node: Node) -> Any:
    """Tile by constant repetitions."""
    reps = build.constant(node, 1)
    if reps is None:
        raise build.refuse(node, "repeats", "a constant second input", "none")
    return build.mil.tile(x=build.operand(node, 0), reps=[int(r) for r in reps], name=build.title(node))


def gather(build: Build, node: Node) -> Any:
    """Gather by constant indices; negative ones count from the end, which MIL leaves undefined."""
    shape, indices = build.shape(node.inputs[0]), build.constant(node, 1)
    if indices is None:
        raise build.refuse(node, "indices", "a constant second input", "none")
    axis = int(node.attributes.get("axis", 0)) % len(shape)
    chosen = np.mod(indices, shape[axis]).astype(np.int32)
    return build.mil.gather(x=build.operand(node, 0), indices=chosen, axis=axis, name=build.title(node))
