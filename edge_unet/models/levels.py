"""Deep-supervision heads and pruning: a network with several heads, cut down to the branch of one of them.

A network with heads L1..Ln (L1 the cheapest) gives a tuple (L1, …, Ln, mean) of logits, all at full size. "Fast" mode
is one head, "accurate" mode the mean of all (UNet++, Zhou et al. 2020, section III-D). Pruning cuts the traced graph:
whatever the kept head does not read is gone, and what is left computes the same numbers.
"""

from __future__ import annotations

import copy

from torch import fx, nn

from edge_unet.core.errors import UsageError
from edge_unet.core.registry import nearest
from edge_unet.models.islands import trace

MEAN = "mean"


def level_names(outputs: int) -> tuple[str, ...]:
    """The levels of a network with that many outputs: () for one, else L1, …, Ln, mean."""
    return () if outputs == 1 else (*(f"L{n}" for n in range(1, outputs)), MEAN)


def outputs_of(net: fx.GraphModule) -> tuple[fx.Node, ...]:
    """The nodes that make the results of a graph, in order."""
    result = next(n for n in net.graph.nodes if n.op == "output").args[0]
    return (result,) if isinstance(result, fx.Node) else tuple(result)


def levels_of(net: nn.Module) -> tuple[str, ...]:
    """The level names of a network; () where it has one head."""
    return level_names(len(outputs_of(trace(net))))


def cut_to_level(net: nn.Module, level: str) -> fx.GraphModule:
    """A copy of `net` (float or quantized) that ends in one head; no node or weight of another branch remains.

    Parameter names stay. Raises UsageError for a level that the network does not have.
    """
    traced = copy.deepcopy(trace(net))
    outputs = outputs_of(traced)
    names = level_names(len(outputs))
    if level not in names:
        hint = nearest(level, names) if names else "it has one head and nothing to prune"
        raise UsageError(f"{type(net).__name__} has no level {level!r}; {hint}")
    kept = outputs[names.index(level)]
    end = next(n for n in traced.graph.nodes if n.op == "output")
    end.args = (kept,)
    traced.graph.eliminate_dead_code()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced
