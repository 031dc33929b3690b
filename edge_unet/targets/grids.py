"""Which ops of a canonical graph only move integers of one grid, so that a target need not round again behind them."""

from __future__ import annotations

import numpy as np

from edge_unet.canonical import CanonicalGraph, Node
from edge_unet.core.artifact import Grid


def same_grid(one: Grid, other: Grid) -> bool:
    """Equal zero points and float32-equal scales."""
    return one.zero_point == other.zero_point and np.array_equal(one.scale, other.scale)


def quantizer(graph: CanonicalGraph, node: Node) -> Node | None:
    """The QuantizeLinear that is the only reader of the node's output, if so."""
    readers = graph.consumers.get(node.output, ())
    return readers[0] if len(readers) == 1 and readers[0].op == "QuantizeLinear" else None


def one_grid(graph: CanonicalGraph, node: Node) -> tuple[tuple[str, ...], str] | None:
    """(integer inputs, integer output) where all tensors of the node lie on one grid, else None."""
    after = quantizer(graph, node)
    before = [graph.quantized(name) for name in node.inputs if name and name not in graph.constants]
    known = tuple(name for name in before if name is not None)
    if after is None or not known or len(known) != len(before):
        return None
    if node.op == "Concat" and any(name in graph.constants for name in node.inputs):
        return None
    target = graph.activations[after.output]
    fits = all(same_grid(graph.activations[name], target) for name in known)
    return (known, after.output) if fits else None
