"""A read-only view of the canonical Q/DQ ONNX: the one hand-over between training and every target.

The view answers what each lowering asks: who makes a tensor, who reads it, which integers and scales stand behind
it. Names are those of the file; a lowering keeps them, so that scales can be read back and compared by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from edge_unet.canonical.metadata import METADATA_KEY, Metadata, parse_metadata
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import ArtifactError, GraphError, UsageError


@dataclass(frozen=True, slots=True)
class Node:
    """One ONNX node. `attributes` are plain Python values (str, int, float, list, array)."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    @property
    def output(self) -> str:
        """The only output. Raises GraphError where there are several."""
        if len(self.outputs) != 1:
            raise GraphError(f"node {self.name!r} ({self.op}) has {len(self.outputs)} outputs; expected one")
        return self.outputs[0]

    def ints(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """An integer list attribute."""
        return tuple(int(v) for v in self.attributes.get(key, default))


@dataclass(frozen=True, slots=True)
class QuantizedWeight:
    """An int8 initializer behind a DequantizeLinear. `name` is the initializer's."""

    name: str
    values: NDArray[np.int8]
    grid: Grid
    axis: int


@dataclass(frozen=True)
class CanonicalGraph:
    """The parsed graph. `nodes` are in topological order and include QuantizeLinear and DequantizeLinear."""

    model: onnx.ModelProto
    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    shapes: Mapping[str, tuple[int, ...]]
    input: str
    outputs: tuple[str, ...]

    @cached_property
    def producers(self) -> Mapping[str, Node]:
        """Tensor name -> the node that makes it."""
        return {name: node for node in self.nodes for name in node.outputs}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """Tensor name -> the nodes that read it, in order."""
        table: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                table.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in table.items()}

    @cached_property
    def activations(self) -> Mapping[str, Grid]:
        """QuantizeLinear output name -> its grid, in graph order."""
        return {n.output: self._grid(n) for n in self.nodes if n.op == "QuantizeLinear"}

    @cached_property
    def weights(self) -> Mapping[str, QuantizedWeight]:
        """DequantizeLinear output name (what a Conv reads) -> the int8 weight behind it."""
        table = {}
        for node in self.nodes:
            if node.op == "DequantizeLinear" and node.inputs[0] in self.constants:
                values = self.constants[node.inputs[0]]
                axis = int(node.attributes.get("axis", 1))
                table[node.output] = QuantizedWeight(node.inputs[0], values, self._grid(node), axis)
        return table

    @cached_property
    def metadata(self) -> Metadata:
        """The edge_unet blob. Raises ArtifactError where it is missing or damaged."""
        for entry in self.model.metadata_props:
            if entry.key == METADATA_KEY:
                return parse_metadata(entry.value)
        raise ArtifactError(f"no {METADATA_KEY!r} entry in metadata_props; expected a file written by edge-unet export")

    def island(self, node: Node) -> str | None:
        """The path of the declared float island that `node` belongs to; None where it has to be in INT8."""
        if node.op in ("QuantizeLinear", "DequantizeLinear"):
            return None
        return island_of(node.name, self.islands)

    @cached_property
    def islands(self) -> Mapping[str, str]:
        """Path of every declared float island -> the reason."""
        try:
            return self.metadata.islands
        except ArtifactError:
            return {}  # a graph without metadata declares none; its own rule says what is missing

    def quantized(self, name: str) -> str | None:
        """The int8 tensor that stands behind a float tensor: the input of the DequantizeLinear that makes it."""
        node = self.producers.get(name)
        return node.inputs[0] if node is not None and node.op == "DequantizeLinear" else None

    def constant(self, name: str, node: Node) -> NDArray[Any]:
        """A constant input of `node`. Raises GraphError where it is computed."""
        if name not in self.constants:
            raise GraphError(f"node {node.name!r} ({node.op}): input {name!r} must be a constant, received a tensor")
        return self.constants[name]

    def _grid(self, node: Node) -> Grid:
        scale = self.constant(node.inputs[1], node).astype(np.float32)
        zero = self.constants[node.inputs[2]] if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1, np.int8)
        if np.unique(zero).size > 1:
            raise GraphError(f"node {node.name!r} ({node.op}): zero points differ between channels")
        return Grid(scale, int(zero.reshape(-1)[0]))


def island_of(name: str, paths: Iterable[str]) -> str | None:
    """The one of `paths` that a node of this name belongs to, or None. A runtime's own name of a layer may begin with
    the node's."""
    return next((path for path in paths if name.startswith(path) and _ends(name, path)), None)


def _ends(name: str, path: str) -> bool:
    """Whether `path` is the whole of `name`, or is followed by a part of its own or by a number."""
    rest = name[len(path) :]
    return rest == "" or rest.startswith(".") or (rest.startswith("_") and rest[1:].split(".")[0].isdigit())


def load_model(path: Path) -> onnx.ModelProto:
    """Parse and check an ONNX file. Raises UsageError where there is none, ArtifactError where it is damaged."""
    if not path.is_file():
        raise UsageError(f"{path}: no such ONNX file")
    try:
        model = onnx.load(path, load_external_data=False)
        onnx.checker.check_model(model)
    except (DecodeError, onnx.checker.ValidationError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArtifactError(f"{path}: damaged or truncated ONNX ({first}); export it again") from error
    return model


def load_graph(path: Path) -> CanonicalGraph:
    """Parse a canonical ONNX file."""
    return view_graph(load_model(path))


def view_graph(model: onnx.ModelProto) -> CanonicalGraph:
    """View a model that is already in memory. Shapes must be static. Raises GraphError otherwise."""
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graph = inferred.graph
    constants = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    nodes = []
    for number, proto in enumerate(graph.node):
        attributes = {a.name: _plain(onnx.helper.get_attribute_value(a)) for a in proto.attribute}
        if proto.op_type == "Constant":
            constants[proto.output[0]] = np.asarray(next(iter(attributes.values())))
            continue
        name = proto.name or f"{proto.op_type}_{number}"
        nodes.append(Node(proto.op_type, name, tuple(proto.input), tuple(proto.output), attributes))
    inputs = [i.name for i in graph.input if i.name not in constants]
    if len(inputs) != 1:
        raise GraphError(f"expected one graph input, received {len(inputs)}: {', '.join(inputs)}")
    shapes = {name: array.shape for name, array in constants.items()}
    for value in (*graph.value_info, *graph.input, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if any(not d.HasField("dim_value") for d in dims):
            raise GraphError(f"tensor {value.name!r} has a dynamic shape; expected static sizes, export with batch 1")
        shapes[value.name] = tuple(d.dim_value for d in dims)
    outputs = tuple(o.name for o in graph.output)
    return CanonicalGraph(model, tuple(nodes), constants, shapes, inputs[0], outputs)


def _plain(value: Any) -> Any:
    """An attribute as a plain value: bytes become str, a TensorProto an array."""
    if isinstance(value, bytes):
        return value.decode()
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
