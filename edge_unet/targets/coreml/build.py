"""What every ONNX -> MIL op function receives: the graph, the MIL builder, the values made so far, the choices."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import CanonicalGraph, Node
from edge_unet.core.errors import GraphError
from edge_unet.targets.coreml.names import Names, NameTable, WeightName


class Deployment(str, Enum):
    """The oldest system the package runs on. It decides the opset: iOS 17 brought quantize/dequantize, iOS 18
    constexpr_blockwise_shift_scale."""

    IOS17 = "iOS17"
    IOS18 = "iOS18"


class WeightStorage(str, Enum):
    """How int8 weights lie in the package. UINT8 stores w + 127 with zero point 127 (same scale, same integers):
    coremltools issue #2114 reports wrong results on GPU and Neural Engine for int8 with zero point 0."""

    INT8 = "int8"
    UINT8 = "uint8"


MAX_RANK = 5
"""Of a MIL tensor."""


@dataclass
class Build:
    """One lowering in progress. `mil` is coremltools' Builder, `values` maps ONNX tensor names to MIL variables."""

    mil: Any
    graph: CanonicalGraph
    names: Names
    deployment: Deployment
    weight_storage: WeightStorage
    values: dict[str, Any] = field(default_factory=dict)
    activations: dict[str, str] = field(default_factory=dict)
    weights: dict[str, WeightName] = field(default_factory=dict)
    islands: dict[str, str] = field(default_factory=dict)
    folded: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """ONNX tensors of more than MAX_RANK axes -> the axes of size 1 that their MIL variables lack."""

    def title(self, node: Node) -> str:
        """The MIL name of the node's output."""
        return self._named(node, node.output)

    def part(self, node: Node, which: str) -> str:
        """The MIL name of an op that is one step of the node; `which` may be the first of several outputs."""
        return self._named(node, which if which in node.outputs else f"{node.output}/{which}")

    def _named(self, node: Node, onnx: str) -> str:
        """The MIL name, noted as part of a float island where the node is."""
        name, path = self.names.mil(onnx), self.graph.island(node)
        if path is not None:
            self.islands[name] = path
        return name

    def operand(self, node: Node, index: int) -> Any:
        """Input `index` of `node`: a MIL variable, or an array in a dtype MIL has. Raises GraphError where there is
        none."""
        name = node.inputs[index] if len(node.inputs) > index else ""
        if name in self.values:
            return self.values[name]
        if name not in self.graph.constants:
            raise self.refuse(node, f"input {index} ({name!r})", "a tensor made before it", "nothing")
        array = self.graph.constants[name]
        return array.astype({"f": np.float32, "i": np.int32}.get(array.dtype.kind, array.dtype))

    def constant(self, node: Node, index: int) -> NDArray[Any] | None:
        """Constant input `index`, or None where the optional input is not given."""
        given = len(node.inputs) > index and node.inputs[index] != ""
        return self.graph.constant(node.inputs[index], node) if given else None

    def shape(self, name: str) -> tuple[int, ...]:
        """The static shape of an ONNX tensor."""
        if name not in self.graph.shapes:
            raise GraphError(f"tensor {name!r} has no inferred shape; export the graph with static shapes")
        return self.graph.shapes[name]

    def table(self) -> NameTable:
        """The names that must be found again in the package."""
        return NameTable(activations=self.activations, weights=self.weights, islands=self.islands)

    @staticmethod
    def refuse(node: Node, what: str, expected: object, received: object) -> GraphError:
        """The error for a node that MIL cannot express as it stands."""
        return GraphError(
            f"Core ML: node {node.name!r} ({node.op}): {what}: expected {expected}, received {received}; "
            "change the layer or leave the target out"
        )


def check_attribute(node: Node, key: str, allowed: tuple[object, ...]) -> None:
    """Raise GraphError where attribute `key` is set to something outside `allowed`."""
    value = node.attributes.get(key, allowed[0])
    if value not in allowed:
        raise Build.refuse(node, key, " or ".join(map(repr, allowed)), repr(value))
