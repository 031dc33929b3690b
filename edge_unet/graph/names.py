"""Stable names for the values of a torch.fx graph: the path of the module that makes each."""

from __future__ import annotations

from torch import fx


def tensor_names(graph: fx.Graph) -> dict[fx.Node, str]:
    """Node -> unique name. Modules give their path; functions give the path they are called in plus their own name.

    The second call of a module or function at one path gets the suffix _1, and so on, in graph order.
    """
    names: dict[fx.Node, str] = {}
    seen: dict[str, int] = {}
    for node in graph.nodes:
        if node.op == "output":
            continue
        stem = _stem(node)
        count = seen.get(stem, 0)
        seen[stem] = count + 1
        names[node] = f"{stem}_{count}" if count else stem
    return names


def _stem(node: fx.Node) -> str:
    if node.op in ("placeholder", "get_attr", "call_module"):
        return str(node.target)
    word = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "function")
    stack = node.meta.get("nn_module_stack") or {}
    path = next(reversed(stack), "")
    return f"{path}.{word}" if path else str(word)
