"""Float islands: parts of a network that stay float in the INT8 graph by a written rule.

An island is a leaf of the trace: quantization does not look inside. What enters it lies on an int8 grid, what leaves
it towards a convolution or a sum is quantized there. Its module path and its reason travel with the exported graph,
so that every target knows the nodes and every census names them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import fx, nn


class FloatIsland(nn.Module):
    """Base of every module that stays float. A subclass states `reason` in one sentence.

    An island holds no convolution and no matrix product with a weight: these belong outside, in INT8.
    """

    reason: ClassVar[str] = ""


class Tracer(fx.Tracer):
    """torch.fx with float islands as leaves."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Islands are not looked into."""
        return isinstance(m, FloatIsland) or super().is_leaf_module(m, module_qualified_name)


def trace(net: nn.Module) -> fx.GraphModule:
    """`net` as a graph of its layers; modules are shared with `net`, not copied. A graph comes back as it is."""
    if isinstance(net, fx.GraphModule):
        return net
    graph = Tracer().trace(net)
    return fx.GraphModule(net, graph, type(net).__name__)


def islands_of(net: fx.GraphModule) -> dict[str, str]:
    """Module path -> reason, for every island that the graph calls, in its order."""
    modules: dict[str, Any] = dict(net.named_modules())
    calls = [str(n.target) for n in net.graph.nodes if n.op == "call_module"]
    return {path: modules[path].reason for path in calls if isinstance(modules[path], FloatIsland)}
