"""The state of one lowering: which ONNX tensor is which tensor of the file, in which layout and on which grid.

Images (rank 4) live as NHWC, everything else as it is in ONNX. The ops (ops_*.py) ask for a tensor in the layout they
need; a TRANSPOSE goes in only where an op wants the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import CanonicalGraph, Node
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.writer import ModelWriter, Quantization

TO_NHWC = (0, 2, 3, 1)
TO_NCHW = (0, 3, 1, 2)
SCRATCH = "::"
"""Between a canonical name and the suffix of a tensor that the lowering adds."""


Nearest = Literal["copies", "resize"]
"""How nearest x2 is written: as copies, which XNNPACK takes, or RESIZE_NEAREST_NEIGHBOR, which NPU compilers take."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the file. `grid` is None for float32; `image` marks NHWC."""

    index: int
    shape: tuple[int, ...]
    grid: Grid | None
    image: bool


@dataclass(frozen=True, slots=True)
class Destination:
    """What a node's result becomes once the activation and the QuantizeLinear behind it are taken in."""

    names: tuple[str, ...]
    """The tensor's name, then the other names it answers to."""
    shape: tuple[int, ...]
    """As in ONNX."""
    grid: Grid | None
    activation: str
    """Member of the schema's ActivationFunctionType."""


def same_grid(a: Grid | None, b: Grid | None) -> bool:
    """Equal to the last bit (or both float)."""
    if a is None or b is None:
        return a is b
    return a.scale.tobytes() == b.scale.tobytes() and a.zero_point == b.zero_point


def nhwc(shape: Sequence[int]) -> tuple[int, ...]:
    """(N, C, H, W) -> (N, H, W, C)."""
    return tuple(shape[axis] for axis in TO_NHWC)


class Build:
    """Everything an op needs to write itself: tensors by ONNX name, the writer, notes for the artifact."""

    def __init__(self, graph: CanonicalGraph, writer: ModelWriter, *, int8: bool, nearest: Nearest = "copies") -> None:
        self.graph = graph
        self.writer = writer
        self.int8 = int8
        self.nearest = nearest
        self.values: dict[str, Value] = {}
        self.aliases: dict[str, int] = {}
        self.plain_images: list[int] = []
        self.scratch_indices: list[int] = []
        self.notes: list[str] = []
        self._taken: set[int] = set()
        self._other_layout: dict[int, Value] = {}

    # Reading

    def value(self, name: str, node: Node) -> Value:
        """The tensor behind an ONNX name. Raises GraphError where it was never quantized."""
        if name not in self.values:
            raise GraphError(
                f"node {node.name!r} ({node.op}): input {name!r} has no {'int8' if self.int8 else 'float'} tensor; "
                f"expected a Q/DQ pair behind the node that makes it (or a constant where the op takes one)"
            )
        return self.values[name]

    def image(self, name: str, node: Node) -> Value:
        """A rank-4 tensor as NHWC."""
        value = self.value(name, node)
        if len(value.shape) != 4:
            raise GraphError(f"node {node.name!r} ({node.op}): expected a rank-4 input, received {value.shape}")
        return value if value.image else self._swap(value, name)

    def plain(self, name: str, node: Node) -> Value:
        """A tensor with its axes in ONNX order."""
        value = self.value(name, node)
        return self._swap(value, name) if value.image else value

    def taken(self, node: Node) -> bool:
        """Whether an earlier node took this one in."""
        return id(node) in self._taken

    def take(self, node: Node) -> None:
        """Mark `node` as written by another one."""
        self._taken.add(id(node))

    # Writing

    def destination(self, node: Node, *, fuse: bool = False) -> Destination:
        """Where `node`'s result goes: takes in a following activation (`fuse`) and the QuantizeLinear behind it."""
        name, activation = node.output, "NONE"
        if fuse and (follower := self._activation(name)) is not None:
            activation = follower[1]
            self.take(follower[0])
            name = follower[0].output
        shape = self.graph.shapes[node.output]
        if not self.int8:
            return Destination((name,), shape, None, activation)
        readers = self.graph.consumers.get(name, ())
        grids = [self.graph.activations[r.output] for r in readers if r.op == "QuantizeLinear"]
        if not grids or len(grids) != len(readers) or name in self.graph.outputs:
            raise GraphError(
                f"node {node.name!r} ({node.op}): output {name!r} is not quantized; expected QuantizeLinear as its "
                f"only reader, received {sorted({r.op for r in readers}) or 'a graph output'}"
            )
        if any(not same_grid(grid, grids[0]) for grid in grids):
            raise GraphError(f"node {node.name!r} ({node.op}): output {name!r} is quantized on two grids; expected one")
        for reader in readers:
            self.take(reader)
        return Destination(tuple(r.output for r in readers), shape, grids[0], activation)

    def create(self, destination: Destination, *, image: bool) -> Value:
        """The tensor of a destination, known from here on under all its names."""
        value = self._tensor(destination.names[0], destination.shape, destination.grid, image)
        if len(value.shape) == 4 and not value.image:
            self.plain_images.append(value.index)
        self.bind(destination.names, value)
        return value

    def bind(self, names: Sequence[str], value: Value) -> None:
        """Let `names` stand for `value`; the names after the first one are remembered in the file."""
        for name in names:
            self.values[name] = value
        self.aliases.update(dict.fromkeys(names[1:], value.index))

    def scratch(self, base: str, suffix: str, shape: Sequence[int], grid: Grid | None, *, image: bool) -> Value:
        """A tensor that the canonical graph does not have. `shape` is as it lies in the file."""
        name = f"{base}{SCRATCH}{suffix}"
        index = self.writer.tensor(name, shape, "FLOAT32" if grid is None else "INT8", quantization_of(grid))
        self.scratch_indices.append(index)
        return Value(index, tuple(shape), grid, image)

    def constant(self, name: str, array: NDArray[np.float32] | NDArray[np.int32]) -> int:
        """A float32 or int32 constant."""
        return self.writer.tensor(name, array.shape, "INT32" if array.dtype == np.int32 else "FLOAT32", None, array)

    def scalar(self, name: str, real: float, grid: Grid | None) -> int:
        """A scalar operand: float32, or for int8 arithmetic the code +-127 on the grid that holds it exactly."""
        if grid is None:
            return self.writer.tensor(name, (), "FLOAT32", None, np.array(real, np.float32))
        step = Quantization(np.array([abs(real) / 127 if real else 1.0], np.float32))
        return self.writer.tensor(name, (), "INT8", step, np.array(127 * np.sign(real), np.int8))

    def code(self, name: str, code: int, grid: Grid) -> int:
        """A scalar int8 operand on `grid`."""
        return self.writer.tensor(name, (), "INT8", quantization_of(grid), np.array(code, np.int8))

    def requantize(self, value: Value, name: str, grid: Grid) -> None:
        """QUANTIZE `value` into a new tensor `name` on `grid`."""
        shape = tuple(value.shape[axis] for axis in TO_NCHW) if value.image else value.shape
        self.quantize(value, Destination((name,), shape, grid, "NONE"))

    def quantize(self, value: Value, destination: Destination) -> Value:
        """QUANTIZE `value` (float, or int8 on another grid) into the tensor of `destination`."""
        result = self.create(destination, image=value.image)
        self.writer.op("QUANTIZE", [value.index], [result.index], ("QuantizeOptions", {}))
        return result

    def on_grid(self, value: Value, grid: Grid | None, base: str) -> Value:
        """`value` on `grid`, through a QUANTIZE where it lies on another one."""
        if same_grid(value.grid, grid):
            return value
        result = self.scratch(base, f"requantized{len(self.scratch_indices)}", value.shape, grid, image=value.image)
        self.writer.op("QUANTIZE", [value.index], [result.index], ("QuantizeOptions", {}))
        self.notes.append(f"{base}: requantized by an own op because its scale differs from its reader's")
        return result

    def real(self, value: Value, base: str) -> Value:
        """`value` as float32, through a DEQUANTIZE where it is int8."""
        if value.grid is None:
            return value
        result = self.scratch(base, f"real{len(self.scratch_indices)}", value.shape, None, image=value.image)
        self.writer.op("DEQUANTIZE", [value.index], [result.index], ("DequantizeOptions", {}))
        return result

    def result_on(self, destination: Destination, grid: Grid | None, *, image: bool) -> tuple[Value, bool]:
        """A tensor on `grid` for an op that cannot write another one, and whether a QUANTIZE must follow."""
        if same_grid(grid, destination.grid):
            return self.create(destination, image=image), False
        shape = nhwc(destination.shape) if image else destination.shape
        return self.scratch(destination.names[0], "raw", shape, grid, image=image), True

    # Inside

    def _tensor(self, name: str, shape: Sequence[int], grid: Grid | None, image: bool) -> Value:
        lying = nhwc(shape) if image else tuple(shape)
        index = self.writer.tensor(name, lying, "FLOAT32" if grid is None else "INT8", quantization_of(grid))
        return Value(index, lying, grid, image)

    def _swap(self, value: Value, name: str) -> Value:
        """The same numbers in the other layout, transposed once however many ops ask."""
        if value.index not in self._other_layout:
            order = TO_NCHW if value.image else TO_NHWC
            shape = tuple(value.shape[axis] for axis in order)
            result = self.scratch(name, "nchw" if value.image else "nhwc", shape, value.grid, image=not value.image)
            axes = self.constant(f"{name}{SCRATCH}order", np.array(order, np.int32))
            self.writer.op("TRANSPOSE", [value.index, axes], [result.index], ("TransposeOptions", {}))
            self._other_layout[value.index] = result
        return self._other_layout[value.index]

    def _activation(self, name: str) -> tuple[Node, str] | None:
        """The Relu or Clip that alone reads `name`, and the fused activation that replaces it."""
        readers = self.graph.consumers.get(name, ())
        if len(readers) != 1 or readers[0].op not in ("Relu", "Clip") or name in self.graph.outputs:
            return None
        reader = readers[0]
        low, high = clip_bounds(self.graph, reader)
        fused = {(0.0, 6.0): "RELU6", (0.0, np.inf): "RELU", (-1.0, 1.0): "RELU_N1_TO_1"}.get((low, high))
        if fused is None and self._saturates(reader.output, low, high):
            self.notes.append(
                f"{reader.name}: clip to [{low:g}, {high:g}] left to the quantizer's saturation; a code may read -128 "
                "where the canonical graph holds -127"
            )
            fused = "NONE"
        return None if fused is None else (reader, fused)

    def _saturates(self, name: str, low: float, high: float) -> bool:
        """Whether the int8 quantizer behind `name` saturates at (low, high) by itself, to one code."""
        readers = self.graph.consumers.get(name, ())
        grids = [self.graph.activations[r.output] for r in readers if r.op == "QuantizeLinear"]
        return bool(grids) and low <= -127 * float(grids[0].scale) and high >= 127 * float(grids[0].scale)


def clip_bounds(graph: CanonicalGraph, node: Node) -> tuple[float, float]:
    """(low, high) of a Relu or Clip, infinite where open."""
    if node.op == "Relu":
        return 0.0, float("inf")
    bounds = [-np.inf, np.inf]
    for place, name in enumerate(node.inputs[1:3]):
        if name:
            bounds[place] = float(graph.constant(name, node).reshape(()))
    return float(bounds[0]), float(bounds[1])


def quantization_of(grid: Grid | None) -> Quantization | None:
    """A per-tensor grid as the file holds it."""
    return None if grid is None else Quantization(grid.scale.reshape(-1), grid.zero_point)
