"""The state of one lowering: which ONNX tensor is which tensor of the file, in which layout and on which grid.

Images live as NHWC, everything else as it is in ONNX (layout.py). The ops (ops_*.py) ask for a tensor in the layout
they need. Inside a float island they are given float32 tensors, through one DEQUANTIZE per int8 tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import CanonicalGraph, Node
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.layout import NHWC, Order, joined_moves, lying, moves, plain, same_bytes, standing
from edge_unet.targets.tflite.writer import ModelWriter, Quantization

SCRATCH = "::"
"""Between a canonical name and the suffix of a tensor that the lowering adds."""

MAX_RANK = 6
"""What LiteRT's transpose, slice and broadcasting kernels take."""

Nearest = Literal["copies", "resize"]
"""How nearest x2 is written: as copies, which XNNPACK takes, or RESIZE_NEAREST_NEIGHBOR, which NPU compilers take."""


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the file. `shape` is as it lies there; `grid` is None for float32."""

    index: int
    shape: tuple[int, ...]
    grid: Grid | None
    order: Order

    @property
    def standing(self) -> tuple[int, ...]:
        """The shape as in ONNX."""
        return standing(self.shape, self.order)


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


class Build:
    """Everything an op needs to write itself: tensors by ONNX name, the writer, notes for the artifact."""

    def __init__(self, graph: CanonicalGraph, writer: ModelWriter, *, int8: bool, nearest: Nearest = "copies") -> None:
        self.graph = graph
        self.writer = writer
        self.int8 = int8
        self.nearest = nearest
        self.values: dict[str, Value] = {}
        self.notes: list[str] = []
        self.islands: dict[str, int] = {}
        """Path of a declared float island -> how many ops it became."""
        self._taken: set[int] = set()
        self._laid: dict[tuple[int, Order], Value] = {}
        self._real: dict[int, int] = {}
        self._constants: dict[tuple[str, Order], Value] = {}
        self._scratches = 0

    # Reading

    def floats(self, node: Node) -> bool:
        """Whether `node` computes in float32 by declaration: every node of a float file, and island nodes."""
        return not self.int8 or self.graph.island(node) is not None

    def value(self, name: str, node: Node) -> Value:
        """The tensor behind an ONNX name: float32 for a node that floats, else as it is. Raises GraphError where
        there is none, and where an int8 op reads from inside an island."""
        floats = self.floats(node)
        if floats and name in self.graph.constants:
            return self.fixed(name, plain(self.graph.constants[name].ndim))
        if name not in self.values:
            raise GraphError(
                f"node {node.name!r} ({node.op}): input {name!r} has no {'float' if floats else 'int8'} tensor; "
                f"expected a Q/DQ pair behind the node that makes it (or a constant where the op takes one)"
            )
        value = self.values[name]
        if floats:
            return self.real(value, node.name)
        if value.grid is None:
            raise GraphError(
                f"node {node.name!r} ({node.op}): input {name!r} is float; expected QuantizeLinear behind the float "
                "island that makes it, or the node inside the island"
            )
        return value

    def image(self, name: str, node: Node) -> Value:
        """A rank-4 tensor as NHWC."""
        value = self.value(name, node)
        if len(value.shape) != 4:
            raise GraphError(f"node {node.name!r} ({node.op}): expected a rank-4 input, received {value.shape}")
        return self.lay(value, NHWC)

    def plain(self, name: str, node: Node) -> Value:
        """A tensor with its axes in ONNX order."""
        value = self.value(name, node)
        return self.lay(value, plain(len(value.shape)))

    def lay(self, value: Value, order: Order) -> Value:
        """The same numbers in another order, moved once however many ops ask."""
        if value.order == order:
            return value
        path = moves(value.order, order)
        if (value.index, path) not in self._laid:
            base = self.writer.name_of(value.index).split(SCRATCH)[0]
            shape = lying(value.standing, order)
            result = self.scratch(base, "laid", shape, value.grid, order)
            if same_bytes(value.standing, value.order, order):
                self.reshape(value, result)
            else:
                self._transpose(value, result, path)
            self._laid[value.index, path] = result
        laid = self._laid[value.index, path]
        return Value(laid.index, laid.shape, laid.grid, order)

    def real(self, value: Value, base: str) -> Value:
        """`value` as float32, through a DEQUANTIZE where it is int8: one per tensor of the file."""
        if value.grid is None:
            return value
        if value.index not in self._real:
            result = self.scratch(base, "real", value.shape, None, value.order)
            self.writer.op("DEQUANTIZE", [value.index], [result.index], ("DequantizeOptions", {}))
            self._real[value.index] = result.index
        return Value(self._real[value.index], value.shape, None, value.order)

    def fixed(self, name: str, order: Order) -> Value:
        """A float constant of the graph, lying in `order`. An order of higher rank puts axes of size 1 in front."""
        if (name, order) not in self._constants:
            array = self.graph.constants[name].astype(np.float32)
            array = np.ascontiguousarray(array.reshape((1,) * (len(order) - array.ndim) + array.shape).transpose(order))
            label = name if not any(known == name for known, _ in self._constants) else f"{name}{SCRATCH}{order}"
            self._constants[name, order] = Value(self.constant(label, array), array.shape, None, order)
        return self._constants[name, order]

    def taken(self, node: Node) -> bool:
        """Whether an earlier node took this one in."""
        return id(node) in self._taken

    def take(self, node: Node) -> None:
        """Mark `node` as written by another one."""
        self._taken.add(id(node))

    # Writing

    def destination(self, node: Node, *, fuse: bool = False, output: str | None = None) -> Destination:
        """Where `node`'s result goes: takes in a following activation (`fuse`) and the QuantizeLinear behind it.

        An island's result stays float; the QuantizeLinear that reads it becomes a QUANTIZE of its own."""
        name, activation = output or node.output, "NONE"
        shape = self.graph.shapes[name]
        follower = self._activation(name) if fuse else None
        if follower is not None and self.floats(follower[0]) == self.floats(node):
            activation = follower[1]
            self.take(follower[0])
            name = follower[0].output
        if self.floats(node):
            return Destination((name,), shape, None, activation)
        readers = self.graph.consumers.get(name, ())
        grids = [self.graph.activations[r.output] for r in readers if r.op == "QuantizeLinear"]
        if fuse and activation == "NONE" and (grid := self._clipped_on(name)) is not None:
            return Destination((name,), shape, grid, "NONE")
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

    def create(self, destination: Destination, order: Order) -> Value:
        """The tensor of a destination, known from here on under all its names."""
        value = self._tensor(destination.names[0], lying(destination.shape, order), destination.grid, order)
        self.bind(destination.names, value)
        return value

    def bind(self, names: Sequence[str], value: Value) -> None:
        """Let `names` stand for `value`."""
        for name in names:
            self.values[name] = value

    def scratch(self, base: str, suffix: str, shape: Sequence[int], grid: Grid | None, order: Order) -> Value:
        """A tensor that the canonical graph does not have. `shape` is as it lies in the file."""
        self._scratches += 1
        return self._tensor(f"{base}{SCRATCH}{suffix}{self._scratches}", tuple(shape), grid, order)

    def constant(self, name: str, array: NDArray[np.float32] | NDArray[np.int32]) -> int:
        """A float32 or int32 constant."""
        return self.writer.tensor(name, array.shape, "INT32" if array.dtype == np.int32 else "FLOAT32", None, array)

    def ints(self, node: Node, suffix: str, values: Any) -> int:
        """An int32 constant that steers `node`: a shape, axes, amounts."""
        return self.constant(f"{node.name}{SCRATCH}{suffix}", np.ascontiguousarray(values, np.int32))

    def scalar(self, name: str, real: float, grid: Grid | None) -> int:
        """A scalar operand: float32, or for int8 arithmetic the code +-127 on the grid that holds it exactly."""
        if grid is None:
            return self.writer.tensor(name, (), "FLOAT32", None, np.array(real, np.float32))
        step = Quantization(np.array([abs(real) / 127 if real else 1.0], np.float32))
        return self.writer.tensor(name, (), "INT8", step, np.array(127 * np.sign(real), np.int8))

    def code(self, name: str, code: int, grid: Grid) -> int:
        """A scalar int8 operand on `grid`."""
        return self.writer.tensor(name, (), "INT8", quantization_of(grid), np.array(code, np.int8))

    def reshape(self, value: Value, result: Value) -> None:
        """RESHAPE in the file's own order."""
        shape = self.constant(f"shape{SCRATCH}{result.index}", np.array(result.shape, np.int32))
        options = ("ReshapeOptions", {"newShape": list(result.shape)})
        self.writer.op("RESHAPE", [value.index, shape], [result.index], options)

    def quantize(self, value: Value, destination: Destination) -> Value:
        """QUANTIZE `value` (float, or int8 on another grid) into the tensor of `destination`."""
        result = self.create(destination, value.order)
        self.writer.op("QUANTIZE", [value.index], [result.index], ("QuantizeOptions", {}))
        return result

    def on_grid(self, value: Value, grid: Grid | None, base: str) -> Value:
        """`value` on `grid`, through a QUANTIZE where it lies on another one."""
        if same_grid(value.grid, grid):
            return value
        result = self.scratch(base, "requantized", value.shape, grid, value.order)
        self.writer.op("QUANTIZE", [value.index], [result.index], ("QuantizeOptions", {}))
        self.notes.append(f"{base}: requantized by an own op because its scale differs from its reader's")
        return result

    def result_on(self, destination: Destination, grid: Grid | None, order: Order) -> tuple[Value, bool]:
        """A tensor on `grid` for an op that cannot write another one, and whether a QUANTIZE must follow."""
        if same_grid(grid, destination.grid):
            return self.create(destination, order), False
        return self.scratch(destination.names[0], "raw", lying(destination.shape, order), grid, order), True

    def settle(self, node: Node, value: Value) -> None:
        """Finish a node whose result is already there: its names stand for `value`, or for a QUANTIZE of it."""
        self.settle_on(self.destination(node), value)

    def settle_on(self, destination: Destination, value: Value) -> None:
        """`settle`, for one result of several."""
        if same_grid(value.grid, destination.grid):
            self.bind(destination.names, value)
        else:
            self.quantize(value, destination)

    # Inside

    def _tensor(self, name: str, shape: tuple[int, ...], grid: Grid | None, order: Order) -> Value:
        index = self.writer.tensor(name, shape, "FLOAT32" if grid is None else "INT8", quantization_of(grid))
        return Value(index, shape, grid, order)

    def _transpose(self, value: Value, result: Value, path: Order) -> None:
        """TRANSPOSE; beyond rank 4 through a RESHAPE to as few axes as the move needs."""
        name = self.writer.name_of(result.index)
        shape, axes = (value.shape, path) if len(path) <= 4 else joined_moves(value.shape, path)
        if len(axes) > MAX_RANK:
            raise GraphError(f"tensor {name!r}: a transposition of {len(axes)} axes {shape} has no TFLite kernel")
        before, after = value, result  # what the TRANSPOSE itself reads and writes
        if len(axes) < len(path):
            before = self.scratch(name, "joined", shape, value.grid, plain(len(shape)))
            self.reshape(value, before)
            after = self.scratch(name, "moved", lying(shape, axes), value.grid, plain(len(shape)))
        constant = self.constant(f"{name}{SCRATCH}order", np.array(axes, np.int32))
        self.writer.op("TRANSPOSE", [before.index, constant], [after.index], ("TransposeOptions", {}))
        if after is not result:
            self.reshape(after, result)

    def _activation(self, name: str) -> tuple[Node, str] | None:
        """The Relu or Clip that alone reads `name`, and the fused activation that replaces it."""
        readers = self.graph.consumers.get(name, ())
        if len(readers) != 1 or readers[0].op not in ("Relu", "Clip") or name in self.graph.outputs:
            return None
        reader = readers[0]
        low, high = clip_bounds(self.graph, reader)
        fused = {(0.0, 6.0): "RELU6", (0.0, np.inf): "RELU", (-1.0, 1.0): "RELU_N1_TO_1"}.get((low, high))
        top = self._top(reader.output)
        if fused is None and low == 0 and high >= top:
            fused = "RELU"  # the quantizer saturates at the upper bound by itself
        if fused is None and low <= -top and high >= top:
            self.notes.append(
                f"{reader.name}: clip to [{low:g}, {high:g}] left to the quantizer's saturation; a code may read -128 "
                "where the canonical graph holds -127"
            )
            fused = "NONE"
        return None if fused is None else (reader, fused)

    def _top(self, name: str) -> float:
        """The largest number that the int8 quantizer behind `name` can hold; infinite without one."""
        readers = self.graph.consumers.get(name, ())
        grids = [self.graph.activations[r.output] for r in readers if r.op == "QuantizeLinear"]
        return 127 * float(grids[0].scale) if grids else float("inf")

    def _clipped_on(self, name: str) -> Grid | None:
        """The grid behind a Clip that alone reads `name` and stays an op of its own: the op in front may write on it
        already, because rounding and clipping change places freely."""
        readers = self.graph.consumers.get(name, ())
        if len(readers) != 1 or readers[0].op not in ("Relu", "Clip") or self.floats(readers[0]):
            return None
        grids = [self.graph.activations[q.output] for q in self.graph.consumers.get(readers[0].output, ())
                 if q.op == "QuantizeLinear"]  # fmt: skip
        return grids[0] if grids else None


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
