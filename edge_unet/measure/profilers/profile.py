"""What a profiler gives, and how its names become those of the canonical graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Protocol

from edge_unet.canonical import CanonicalGraph, Node
from edge_unet.core.artifact import Artifact
from edge_unet.core.limits import LayerTime
from edge_unet.core.spec import Tensors

FUSED = frozenset({"QuantizeLinear", "DequantizeLinear", "Clip", "Relu"})
"""Ops that runtimes compute in the kernel in front of them."""

WARM = 2
"""Runs that are profiled and not counted."""


@dataclass(frozen=True, slots=True)
class Profile:
    """One artifact's layers in the order of execution. `source` says which profiler, and what it cannot tell."""

    source: str
    runtime: str
    runs: int
    layers: tuple[LayerTime, ...]


class Profiler(Protocol):
    """Run an artifact under its runtime's profiler."""

    def __call__(
        self, folder: Path, artifact: Artifact, feeds: Tensors, runs: int, *, graph: CanonicalGraph, threads: int,
        bf16: bool,
    ) -> Profile:  # fmt: skip
        """Profile the artifact; see the class."""
        ...


class Names:
    """From a runtime's name of a kernel to the node of the canonical graph that it computes.

    A runtime names a kernel after a node, or after the tensor that it makes, with something of its own behind it.
    """

    def __init__(self, graph: CanonicalGraph) -> None:
        self._graph = graph
        self._nodes: Mapping[str, Node] = {n.name: n for n in graph.nodes} | dict(graph.producers)

    def node(self, names: Iterable[str], *, alone: bool = False) -> Node | None:
        """The first node of `names` that is more than a rounding or a clip. Where all are of that kind: what they are
        fused behind, or, for a kernel that does nothing else (`alone`), the first of them."""
        found = [node for name in names if (node := self._find(name)) is not None]
        for node in found:
            if node.op not in FUSED:
                return node
        if not found:
            return None
        return found[0] if alone else self._behind(found[0])

    def _find(self, name: str) -> Node | None:
        """The node or tensor of this name, or of the longest part of it that ends before a separator."""
        places = [place for place, letter in enumerate(name) if letter in "._:"]
        heads = (name[:place] for place in reversed([*places, len(name)]))
        return next((self._nodes[head] for head in heads if head in self._nodes), None)

    def _behind(self, fused: Node) -> Node:
        """What makes the tensor that is rounded or clipped."""
        node = fused
        while node.op in FUSED:
            maker = self._graph.producers.get(node.inputs[0])
            if maker is None:
                return fused
            node = maker
        return node


def layer_time(name: str, op: str, unit: str, node: Node | None, samples_ns: Sequence[float]) -> LayerTime:
    """A row: the canonical node's name and op where it is known, the runtime's otherwise."""
    return LayerTime(
        name=name if node is None else node.name,
        op=op if node is None else node.op,
        unit=unit,
        time_ns=max(0, round(median(samples_ns))),
    )
