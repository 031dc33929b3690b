"""Reductions over constant axes."""

from __future__ import annotations

from typing import Any

from edge_unet.canonical import Node
from edge_unet.targets.coreml.build import Build


def reduce_max(build: Build, node: Node) -> Any:
    """ReduceMax: of int8 codes only comparisons, so that no rounding is in it."""
    return build.mil.reduce_max(**_arguments(build, node))


def reduce_mean(build: Build, node: Node) -> Any:
    """ReduceMean."""
    return build.mil.reduce_mean(**_arguments(build, node))


def reduce_sum(build: Build, node: Node) -> Any:
    """ReduceSum."""
    return build.mil.reduce_sum(**_arguments(build, node))


def global_average_pool(build: Build, node: Node) -> Any:
    """GlobalAveragePool: the mean over height and width."""
    return build.mil.reduce_mean(x=build.operand(node, 0), axes=[2, 3], keep_dims=True, name=build.title(node))


def global_max_pool(build: Build, node: Node) -> Any:
    """GlobalMaxPool: the maximum over height and width."""
    return build.mil.reduce_max(x=build.operand(node, 0), axes=[2, 3], keep_dims=True, name=build.title(node))


def _arguments(build: Build, node: Node) -> dict[str, Any]:
    """What the reductions share; the axes are an input since opset 18."""
    axes = build.constant(node, 1)
    if axes is None or axes.size == 0:
        raise build.refuse(node, "axes", "a constant second input", "none")
    return {
        "x": build.operand(node, 0),
        "axes": [int(a) for a in axes.reshape(-1)],
        "keep_dims": bool(node.attributes.get("keepdims", 1)),
        "name": build.title(node),
    }
