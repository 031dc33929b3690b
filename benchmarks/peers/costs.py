"""What each network of a run costs on paper. A report has no place for it but its notes: one line a network."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edge_unet.canonical import CanonicalGraph
from edge_unet.core.spec import Precision
from edge_unet.measure.limit import layer_costs

_LINE = re.compile(r"cost: (\S+): (\d+) parameters, (\d+) MACs")


@dataclass(frozen=True)
class Cost:
    """Trainable parameters and multiply-accumulates for one frame."""

    network: str
    parameters: int
    macs: int

    def note(self) -> str:
        """The line that `read_costs` reads."""
        return f"cost: {self.network}: {self.parameters} parameters, {self.macs} MACs"


def read_costs(notes: Iterable[str]) -> dict[str, Cost]:
    """Network -> cost, from the notes of a report; other notes are passed over."""
    found = (_LINE.fullmatch(note) for note in notes)
    return {m[1]: Cost(m[1], int(m[2]), int(m[3])) for m in found if m}


def cost_of_graph(name: str, graph: CanonicalGraph) -> Cost:
    """Of a bundle's canonical graph, BN folded: convolutions and matrix products with their biases."""
    products = [n for n in graph.nodes if n.op in ("Conv", "ConvTranspose", "MatMul", "Gemm")]
    weighted = [n for n in products if n.inputs[1] in graph.weights]
    weights = sum(graph.weights[n.inputs[1]].values.size for n in weighted)
    biases = sum(_length(graph, bias) for n in weighted for bias in n.inputs[2:3] if bias)
    macs = sum(layer.macs for layer in layer_costs(graph, Precision.INT8))
    return Cost(name, weights + biases, macs)


def _length(graph: CanonicalGraph, name: str) -> int:
    """Values of a bias, which may stand behind a DequantizeLinear."""
    behind = graph.quantized(name) or name
    return int(graph.constants[behind].size) if behind in graph.constants else 0
