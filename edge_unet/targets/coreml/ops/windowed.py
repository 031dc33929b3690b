"""Convolutions, pools and resizes: the ops that look at a window of pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_unet.canonical import Node
from edge_unet.targets.coreml.build import Build, check_attribute


def conv(build: Build, node: Node) -> Any:
    """Conv 2-D, grouped and dilated too; weight (O, I/groups, kh, kw)."""
    return build.mil.conv(**_conv_arguments(build, node, _pads(build, node)))


def conv_transpose(build: Build, node: Node) -> Any:
    """ConvTranspose 2-D; weight (I, O/groups, kh, kw). output_padding becomes less padding at the end."""
    top, bottom, left, right = _pads(build, node)
    extra_h, extra_w = node.ints("output_padding", (0, 0))
    pad = [top, bottom - extra_h, left, right - extra_w]
    if min(pad) < 0:
        raise build.refuse(node, "output_padding", "at most the end padding", (extra_h, extra_w))
    return build.mil.conv_transpose(**_conv_arguments(build, node, pad))


def _conv_arguments(build: Build, node: Node, pad: list[int]) -> dict[str, Any]:
    x = build.operand(node, 0)
    if len(x.shape) != 4:
        raise build.refuse(node, "input", "a (1, C, H, W) tensor", x.shape)
    arguments = {
        "x": x,
        "weight": build.operand(node, 1),
        "strides": list(node.ints("strides", (1, 1))),
        "dilations": list(node.ints("dilations", (1, 1))),
        "groups": int(node.attributes.get("group", 1)),
        "pad_type": "custom",
        "pad": pad,
        "name": build.title(node),
    }
    if len(node.inputs) > 2 and node.inputs[2]:
        arguments["bias"] = build.operand(node, 2)
    return arguments


def _pads(build: Build, node: Node) -> list[int]:
    """ONNX (top, left, bottom, right) -> MIL (top, bottom, left, right)."""
    check_attribute(node, "auto_pad", ("NOTSET", "VALID"))
    pads = node.ints("pads", (0, 0, 0, 0))
    if len(pads) != 4:
        raise build.refuse(node, "pads", "four numbers", pads)
    top, left, bottom, right = pads
    return [top, bottom, left, right]


def max_pool(build: Build, node: Node) -> Any:
    """MaxPool 2-D; padding counts as minus infinity in both languages."""
    if len(node.outputs) != 1 or any(d != 1 for d in node.ints("dilations", (1, 1))):
        raise build.refuse(node, "pool", "one output and no dilation", node.attributes)
    return build.mil.max_pool(**_pool_arguments(build, node))


def average_pool(build: Build, node: Node) -> Any:
    """AveragePool 2-D."""
    exclude = not node.attributes.get("count_include_pad", 0)
    return build.mil.avg_pool(**_pool_arguments(build, node), exclude_padding_from_average=exclude)


def _pool_arguments(build: Build, node: Node) -> dict[str, Any]:
    kernel, strides = node.ints("kernel_shape", ()), node.ints("strides", (1, 1))
    pad = _pads(build, node)
    sizes = build.shape(node.inputs[0])[2:]
    if node.attributes.get("ceil_mode", 0):
        spans = [sizes[i] + pad[2 * i] + pad[2 * i + 1] - kernel[i] for i in (0, 1)]
        if any(span % stride for span, stride in zip(spans, strides, strict=True)):
            raise build.refuse(node, "ceil_mode", "windows that fit without rounding", sizes)
    return {
        "x": build.operand(node, 0),
        "kernel_sizes": list(kernel),
        "strides": list(strides),
        "pad_type": "custom",
        "pad": pad,
        "name": build.title(node),
    }


def resize(build: Build, node: Node) -> Any:
    """Resize of height and width: nearest by a whole factor, or half-pixel bilinear."""
    before, after = build.shape(node.inputs[0]), build.shape(node.output)
    if len(before) != 4 or before[:2] != after[:2]:
        raise build.refuse(node, "resize", "height and width of a (1, C, H, W) tensor", f"{before} -> {after}")
    x, name = build.operand(node, 0), build.title(node)
    factors = (after[2] / before[2], after[3] / before[3])
    whole = all(f == int(f) for f in factors)
    coordinates = node.attributes.get("coordinate_transformation_mode", "half_pixel")
    mode = node.attributes.get("mode", "nearest")
    if mode == "nearest":
        rounding = node.attributes.get("nearest_mode", "round_prefer_floor")
        repeats = (coordinates, rounding) in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"))
        if not whole or not repeats:
            raise build.refuse(node, "nearest resize", "a whole factor that repeats pixels", (coordinates, factors))
        return build.mil.upsample_nearest_neighbor(
            x=x, scale_factor_height=int(factors[0]), scale_factor_width=int(factors[1]), name=name
        )
    if mode != "linear" or coordinates not in ("half_pixel", "pytorch_half_pixel"):
        raise build.refuse(node, "resize", "nearest or half-pixel linear", f"{mode}, {coordinates}")
    check_attribute(node, "antialias", (0,))
    if whole:
        height, width = np.float32(factors[0]), np.float32(factors[1])
        return build.mil.upsample_bilinear(
            x=x, scale_factor_height=height, scale_factor_width=width, align_corners=False, name=name
        )
    return build.mil.resize_bilinear(
        x=x, target_size_height=after[2], target_size_width=after[3], sampling_mode="UNALIGN_CORNERS", name=name
    )
