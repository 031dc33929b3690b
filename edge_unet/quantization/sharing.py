"""Which tensors of a network share one grid, and where a quantizer stands: decided once, before any is inserted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import fx

from edge_unet.core.errors import GraphError
from edge_unet.graph.names import tensor_names
from edge_unet.quantization.rules import Rule, rules_of

Kind = Literal["input", "logits", "learned"]


@dataclass(frozen=True)
class Group:
    """Tensors on one scale. `key` names the quantizer; the input's and the logits' scales are fixed."""

    key: str
    kind: Kind
    sites: tuple[fx.Node, ...]
    """Nodes whose results are quantized, in graph order."""
    entries: tuple[tuple[fx.Node, fx.Node], ...]
    """(Concat, one of its inputs): edges on which an input of another, fixed grid is quantized anew."""


class _Unions:
    """Union-find over nodes."""

    def __init__(self) -> None:
        self.parent: dict[fx.Node, fx.Node] = {}

    def find(self, node: fx.Node) -> fx.Node:
        while (above := self.parent.setdefault(node, node)) is not node:
            node = above
        return node

    def join(self, a: fx.Node, b: fx.Node) -> None:
        """One set; the root is that of `b`."""
        self.parent[self.find(a)] = self.find(b)


def plan_groups(net: fx.GraphModule) -> list[Group]:
    """The groups of a BN-folded network, in graph order. Raises GraphError for an op without a rule."""
    rules = rules_of(net)
    nodes = [n for n in net.graph.nodes if rules[n] not in (Rule.OUTPUT, Rule.SHAPE)]
    inputs = [n for n in nodes if rules[n] is Rule.INPUT]
    if len(inputs) != 1:
        raise GraphError(f"expected a network with one input, received {[n.name for n in inputs]}")
    unions, entries = _unite(nodes, rules, inputs[0])
    _unite_calls(nodes, rules, unions, inputs[0])
    outputs = next(n for n in net.graph.nodes if n.op == "output").all_input_nodes
    _unite_sums(nodes, rules, unions, [inputs[0], *outputs])
    logits = {unions.find(n) for n in outputs}
    if unions.find(inputs[0]) in logits:
        raise GraphError("an output lies on the grid of the input; expected a convolution between them")
    members: dict[fx.Node, list[fx.Node]] = {}
    for node in nodes:
        if rules[node] is not Rule.SPLIT and not _silent(node, rules) and not _inside(node, rules):
            members.setdefault(unions.find(node), []).append(node)
    names = tensor_names(net.graph)
    groups = []
    for root, sites in members.items():
        kind: Kind = "logits" if root in logits else "input" if root is unions.find(inputs[0]) else "learned"
        edges = tuple(e for e in entries if unions.find(e[0]) is root)
        key = "image" if kind == "input" else names[sites[0]].replace(".", "_")
        groups.append(Group(key, kind, tuple(sites), edges))
    return groups


def _unite(
    nodes: list[fx.Node], rules: dict[fx.Node, Rule], frame: fx.Node
) -> tuple[_Unions, list[tuple[fx.Node, fx.Node]]]:
    """Join what must share. The frame's fixed grid never spreads over a Concat: it would clip its neighbours to +-2."""
    unions = _Unions()
    entries = []
    for node in nodes:
        if rules[node] in (Rule.SAME, Rule.SPLIT):
            unions.join(node, node.all_input_nodes[0])
        elif rules[node] is Rule.CONCAT:
            for source in node.all_input_nodes:
                if unions.find(source) is unions.find(frame):
                    entries.append((node, source))
                else:
                    unions.join(source, node)
    return unions, entries


def _unite_calls(nodes: list[fx.Node], rules: dict[fx.Node, Rule], unions: _Unions, frame: fx.Node) -> None:
    """One grid over what a convolution reads in all its calls: its bias lies on the product of two scales. The frame's
    fixed grid stays alone."""
    calls: dict[str, fx.Node] = {}
    for node in nodes:
        if node.op == "call_module" and rules[node] is Rule.CONV:
            first = calls.setdefault(str(node.target), node)
            for ours, theirs in zip(node.all_input_nodes, first.all_input_nodes, strict=True):
                if first is not node and unions.find(frame) not in (unions.find(ours), unions.find(theirs)):
                    unions.join(ours, theirs)


def _unite_sums(nodes: list[fx.Node], rules: dict[fx.Node, Rule], unions: _Unions, fixed: list[fx.Node]) -> None:
    """Join both inputs of a sum with its result: codes then add up without rounding.

    On different scales half of the sums may be ties, which integer kernels (XNNPACK's add) round up and float ones to
    even. Sums on the frame's or the logits' fixed grids keep their scales.
    """
    for node in nodes:
        if rules[node] is not Rule.SUM:
            continue
        result = next(iter(node.users)) if _silent(node, rules) else node
        members = [*node.all_input_nodes, result]
        if {unions.find(m) for m in members}.isdisjoint({unions.find(f) for f in fixed}):
            for member in members:
                unions.join(member, result)


def _inside(node: fx.Node, rules: dict[fx.Node, Rule]) -> bool:
    """Whether the value never leaves float: islands read it, and nothing else."""
    return rules[node] is Rule.FLOAT and bool(node.users) and all(rules[u] is Rule.FLOAT for u in node.users)


def _silent(node: fx.Node, rules: dict[fx.Node, Rule]) -> bool:
    """Whether the value goes straight into an activation, after which it is quantized instead."""
    if rules[node] not in (Rule.CONV, Rule.BINARY, Rule.SUM, Rule.ACTIVATION) or len(node.users) != 1:
        return False
    return rules[next(iter(node.users))] is Rule.ACTIVATION
