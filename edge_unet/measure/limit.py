"""How fast a model could be on a machine: sum over its layers of max(MACs / peak, bytes / bandwidth).

Every tensor is read once and written once, at the width the artifact holds it in. What a good kernel does on the way
costs nothing: Q/DQ, activations, and moves such as Concat, whose values can be written to their place by whoever makes
them. An addition costs the read of one operand, the other is in registers. The limit is a lower bound of an ideal
runtime on this machine, not a prediction of any.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path

from edge_unet.canonical import CanonicalGraph, Node, load_model, view_graph
from edge_unet.core.errors import GraphError
from edge_unet.core.limits import LayerTimes, LimitRow, Peaks
from edge_unet.core.registry import registry
from edge_unet.core.report import BenchReport, Measurement
from edge_unet.core.spec import Precision

SMALL_LAYER_BYTES = 1_500_000
"""A layer that moves less finds its tensors in the caches."""

CLEAR_NS = 50_000
"""A layer must have taken this long for its rate to be believed: profilers count whole microseconds."""

BYTES_OF = {Precision.FP32: 4, Precision.BF16: 2, Precision.FP16: 2, Precision.INT8: 1}
"""Bytes of one value of a tensor or a weight."""

PEAK_OF = {
    Precision.INT8: "int8_macs_per_s", Precision.BF16: "bf16_macs_per_s", Precision.FP32: "fp32_macs_per_s",
}  # fmt: skip
"""Field of Peaks that bounds the arithmetic. FP16 has none: no CPU here computes in it."""


@dataclass(frozen=True, slots=True)
class LayerCost:
    """What one layer cannot do without. `precision` is that of its arithmetic."""

    name: str
    op: str
    macs: int
    bytes_moved: int
    precision: Precision

    def seconds(self, peaks: Peaks) -> float | None:
        """The least time on a machine of these peaks; None where it has no such arithmetic."""
        peak = peak_of(peaks, self.precision)
        if self.macs and peak is None:
            return None
        small = self.bytes_moved < SMALL_LAYER_BYTES
        bandwidth = peaks.small_bytes_per_s if small else peaks.large_bytes_per_s
        return max(self.macs / peak if peak else 0.0, self.bytes_moved / bandwidth)


def peak_of(peaks: Peaks, precision: Precision) -> float | None:
    """The MAC rate that bounds arithmetic of `precision`."""
    value: float | None = getattr(peaks, PEAK_OF[precision]) if precision in PEAK_OF else None
    return value


@dataclass(frozen=True)
class ForeignGraph(CanonicalGraph):
    """The float ONNX of a network from elsewhere. It does not say what becomes integers: in INT8 it is taken as if
    everything did, which is the least that it could need."""


def foreign_graph(path: Path) -> ForeignGraph:
    """Parse a float ONNX file of static shapes."""
    graph = view_graph(load_model(path))
    return ForeignGraph(**{field.name: getattr(graph, field.name) for field in fields(graph)})


class _Sizes:
    """Bytes of the tensors of a graph as an artifact of one precision holds them."""

    def __init__(self, graph: CanonicalGraph, precision: Precision) -> None:
        self.graph = graph
        self.precision = precision
        self.plain = isinstance(graph, ForeignGraph)
        self.uniform = self.plain or precision is not Precision.INT8

    def values(self, name: str) -> int:
        """Number of values of a tensor."""
        return prod(self.graph.shapes[name])

    def read(self, name: str) -> int:
        """Bytes of an input. Constants that are no weights (biases, embeddings) are 32 bits wide everywhere."""
        if not name:
            return 0
        if name in self.graph.constants and (not self.plain or len(self.graph.shapes[name]) < 2):
            return 4 * self.values(name)
        if self.uniform:
            return BYTES_OF[self.precision] * self.values(name)
        integers = name in self.graph.weights or self.graph.quantized(name) is not None
        return (1 if integers else 4) * self.values(name)

    def written(self, name: str) -> int:
        """Bytes of an output: codes where only quantizers read it, through what is fused behind it."""
        if self.uniform:
            return BYTES_OF[self.precision] * self.values(name)
        return (1 if self._becomes_codes(name) else 4) * self.values(name)

    def _becomes_codes(self, name: str) -> bool:
        readers = self.graph.consumers.get(name, ())
        return bool(readers) and all(
            r.op == "QuantizeLinear" or (COSTS.get(r.op) is free and all(map(self._becomes_codes, r.outputs)))
            for r in readers
        )

    def arithmetic(self, node: Node) -> Precision:
        """INT8 only where every operand is an integer tensor: float islands compute in FP32."""
        if self.uniform:
            return self.precision
        operands = [i for i in node.inputs[:2] if i and i not in self.graph.constants]
        integers = all(i in self.graph.weights or self.graph.quantized(i) is not None for i in operands)
        return Precision.INT8 if integers and self.graph.island(node) is None else Precision.FP32


Cost = Callable[[Node, _Sizes], tuple[int, int]]
"""(MACs, bytes) of a node."""


def free(_node: Node, _sizes: _Sizes) -> tuple[int, int]:
    """Nothing: fused into what makes or reads the tensor."""
    return 0, 0


def one_read(node: Node, sizes: _Sizes) -> tuple[int, int]:
    """Elementwise on two tensors: the smaller one is read, the other is in registers, as the result is."""
    return 0, min(map(sizes.read, node.inputs)) if len(set(node.inputs)) > 1 else 0


def by_bytes(node: Node, sizes: _Sizes) -> tuple[int, int]:
    """Every value is read once and every result written once. Other inputs say how, not what."""
    return 0, sizes.read(node.inputs[0]) + sum(map(sizes.written, node.outputs))


def _all_bytes(node: Node, sizes: _Sizes) -> int:
    return sum(map(sizes.read, node.inputs)) + sum(map(sizes.written, node.outputs))


def conv(node: Node, sizes: _Sizes) -> tuple[int, int]:
    """Each output is a sum over a filter: (O, I / groups, kh, kw)."""
    filters = sizes.graph.shapes[node.inputs[1]]
    return sizes.values(node.outputs[0]) * prod(filters[1:]), _all_bytes(node, sizes)


def conv_transpose(node: Node, sizes: _Sizes) -> tuple[int, int]:
    """Each input is multiplied with a filter: (I, O / groups, kh, kw)."""
    filters = sizes.graph.shapes[node.inputs[1]]
    return sizes.values(node.inputs[0]) * prod(filters[1:]), _all_bytes(node, sizes)


def mat_mul(node: Node, sizes: _Sizes) -> tuple[int, int]:
    """Each output is a sum over the inner axis."""
    inner = sizes.graph.shapes[node.inputs[0]][-1]
    return sizes.values(node.outputs[0]) * inner, _all_bytes(node, sizes)


def gemm(node: Node, sizes: _Sizes) -> tuple[int, int]:
    """As mat_mul; the left matrix may be transposed."""
    inner = sizes.graph.shapes[node.inputs[0]][0 if int(node.attributes.get("transA", 0)) else 1]
    return sizes.values(node.outputs[0]) * inner, _all_bytes(node, sizes)


def einsum(node: Node, sizes: _Sizes) -> tuple[int, int]:
    """One multiplication for each combination of the indices."""
    terms = str(node.attributes["equation"]).replace(" ", "").partition("->")[0].split(",")
    extents: dict[str, int] = {}
    for term, name in zip(terms, node.inputs, strict=True):
        shape = sizes.graph.shapes[name]
        if len(term) != len(shape) or not term.isalpha():
            raise GraphError(f"node {node.name!r} (Einsum): expected one letter an axis of {shape}, received {term!r}")
        extents.update(zip(term, shape, strict=True))
    return prod(extents.values()), _all_bytes(node, sizes)


FREE = (
    "QuantizeLinear", "DequantizeLinear",
    "BatchNormalization", "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Gelu",
    "Elu", "Erf", "Exp", "Log", "Neg", "Sqrt", "Softplus",
    "Cast", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "ScatterND",
    "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze",
)  # fmt: skip
"""Q/DQ, functions of one value, and moves: the maker or the reader of a value can put it where it belongs."""

ONE_READ = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow")
BY_BYTES = (
    "AveragePool", "CumSum", "GlobalAveragePool", "GlobalMaxPool", "LayerNormalization", "MaxPool", "ReduceMax",
    "ReduceMean", "ReduceSum", "Resize", "Softmax", "Tile",
)  # fmt: skip

COSTS: Mapping[str, Cost] = registry(
    (
        *((op, free) for op in FREE),
        *((op, one_read) for op in ONE_READ),
        *((op, by_bytes) for op in BY_BYTES),
        ("Conv", conv),
        ("ConvTranspose", conv_transpose),
        ("MatMul", mat_mul),
        ("Gemm", gemm),
        ("Einsum", einsum),
    )
)
"""ONNX op -> what it cannot do without. An op that is not here is an error: a cost of 0 would be invented."""


def layer_costs(graph: CanonicalGraph, precision: Precision) -> tuple[LayerCost, ...]:
    """The layers of an artifact of `precision` that cost something, in graph order; the float precisions are those of
    the twin without Q/DQ. Raises GraphError, naming the node, for an op without a cost."""
    sizes = _Sizes(graph, precision)
    layers = []
    for node in graph.nodes:
        if node.op not in COSTS:
            raise GraphError(
                f"node {node.name!r} ({node.op}): the limit has no cost for it; add one to edge_unet/measure/limit.py"
            )
        macs, moved = COSTS[node.op](node, sizes)
        if macs or moved:
            layers.append(LayerCost(node.name, node.op, macs, moved, sizes.arithmetic(node)))
    return tuple(layers)


def limit_ns(layers: Iterable[LayerCost], peaks: Peaks) -> int | None:
    """The least time for all layers, one after the other; None where the machine lacks an arithmetic they need."""
    total = 0.0
    for layer in layers:
        seconds = layer.seconds(peaks)
        if seconds is None:
            return None
        total += seconds
    return max(1, round(total * 1e9))


def limit_rows(report: BenchReport, graphs: Mapping[str, CanonicalGraph], peaks: Peaks) -> tuple[LimitRow, ...]:
    """The limit of every subject whose model alone was timed. `graphs`: artifact_sha256 -> the canonical graph it was
    lowered from. A precision that these peaks lack has no row."""
    rows = []
    for measured, layers in _subjects(report, graphs):
        limit = limit_ns(layers, peaks)
        if limit is None:
            continue
        rows.append(
            LimitRow(
                **{name: getattr(measured, name) for name in SUBJECT},
                macs=sum(layer.macs for layer in layers),
                bytes_moved=sum(layer.bytes_moved for layer in layers),
                limit_ns=limit,
                measured_ns=measured.p50_ns,
            )
        )
    return tuple(rows)


SUBJECT = ("target", "precision", "runtime", "bundle", "artifact_sha256", "on_device")


def _subjects(
    report: BenchReport, graphs: Mapping[str, CanonicalGraph]
) -> Iterator[tuple[Measurement, tuple[LayerCost, ...]]]:
    for measured in report.measurements:
        if measured.scope == "model" and measured.artifact_sha256 in graphs:
            yield measured, layer_costs(graphs[measured.artifact_sha256], measured.precision)


def with_limits(report: BenchReport, graphs: Mapping[str, CanonicalGraph], peaks: Peaks) -> BenchReport:
    """The report with its limits, and with peaks that nothing in it exceeds."""
    peaks = raised_to_seen(peaks, report, graphs)
    return report.model_copy(update={"peaks": peaks, "limits": limit_rows(report, graphs, peaks)})


def raised_to_seen(peaks: Peaks, report: BenchReport, graphs: Mapping[str, CanonicalGraph]) -> Peaks:
    """Peaks that no layer and no model of the report exceeds; `method` says what raised them.

    What was reached is possible: a layer faster than the peak, or a model faster than its limit, shows that the peak
    was measured too low (a busy neighbour, or a shape that suits the machine better).
    """
    for times in report.layer_times:
        if times.artifact_sha256 in graphs:
            peaks = _raised_by_layers(peaks, times, layer_costs(graphs[times.artifact_sha256], times.precision))
    for measured, layers in _subjects(report, graphs):
        peaks = _raised_by_model(peaks, measured, layers)
    return peaks


def _raised_by_layers(peaks: Peaks, times: LayerTimes, layers: Sequence[LayerCost]) -> Peaks:
    taken: dict[str, int] = {}
    for layer in times.layers:
        taken[layer.name] = taken.get(layer.name, 0) + layer.time_ns
    for cost in layers:
        peak, spent = peak_of(peaks, cost.precision), taken.get(cost.name, 0)
        if peak is None or spent < CLEAR_NS or (rate := cost.macs / spent * 1e9) <= peak:
            continue
        said = f"{cost.precision.value} raised to {rate / 1e9:.0f} GMAC/s, reached by {cost.name} in {times.label}"
        peaks = peaks.model_copy(update={PEAK_OF[cost.precision]: rate, "method": f"{peaks.method}; {said}"})
    return peaks


def _raised_by_model(peaks: Peaks, measured: Measurement, layers: Sequence[LayerCost]) -> Peaks:
    """A model below its limit raises everything that made the limit by the same factor."""
    limit = limit_ns(layers, peaks)
    if limit is None or limit <= measured.p50_ns:
        return peaks
    factor = limit / measured.p50_ns
    fields = {PEAK_OF[layer.precision] for layer in layers if layer.macs} | {"small_bytes_per_s", "large_bytes_per_s"}
    said = f"{', '.join(sorted(fields))} raised by {factor:.2f}: {measured.label} took less than its limit"
    raised: dict[str, object] = {name: getattr(peaks, name) * factor for name in fields}
    return peaks.model_copy(update={**raised, "method": f"{peaks.method}; {said}"})
