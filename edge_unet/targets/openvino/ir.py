"""An OpenVINO model under construction: canonical tensor name -> node, with names that do not depend on history."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import CanonicalGraph, Node, QuantizedWeight
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import GraphError, require

MARK = "."
"""Separates a canonical name from what the lowering adds around it."""

STEP = " step "
"""In the name of an operator that is a step of a canonical one's lowering and has no tensor of the canonical graph."""


class IrGraph:
    """Nodes made so far. `ops` is OpenVINO's opset; `frame_input` says that the input is the raw u8 frame (NHWC)."""

    def __init__(self, graph: CanonicalGraph, *, frame_input: bool) -> None:
        self.graph = graph
        self.ops: Any = require("openvino.opset13", "openvino")
        self.first_ops: Any = require("openvino.opset1", "openvino")  # its MaxPool has one output, later ones two
        self.runtime: Any = require("openvino", "openvino")
        self.made: dict[str, Any] = {}
        self.named: set[str] = set()
        shape = graph.shapes[graph.input]
        if frame_input:
            n, c, h, w = shape
            self.parameter = self.ops.parameter([n, h, w, c], np.uint8)
            real = self.ops.convert(self.parameter, "f32")
            self.made[graph.input] = self.ops.transpose(real, np.array([0, 3, 1, 2], np.int64))  # (N, C, H, W)
        else:
            self.parameter = self.ops.parameter(list(shape), np.float32)
            self.made[graph.input] = self.parameter
        self.name(self.parameter, graph.input)

    def name(self, node: Any, name: str) -> Any:
        """Give a node the name under which read_back and the census find it."""
        node.set_friendly_name(name)
        self.named.add(name)
        return node

    def put(self, node: Node, made: Any, name: str | None = None) -> None:
        """Record what computes the node's output."""
        self.made[node.output] = self.name(made, name or node.name)

    def value(self, name: str, node: Node) -> Any:
        """What stands for an ONNX tensor: a computed node, a dequantized weight or a float constant."""
        if name in self.made:
            return self.made[name]
        if name in self.graph.weights:
            weight = self.graph.weights[name]
            return self.weight(name, node, weight.values.shape)
        return self.name(self.ops.constant(self.graph.constant(name, node)), name)

    def values(self, node: Node) -> list[Any]:
        """All inputs of a node."""
        return [self.value(name, node) for name in node.inputs]

    def weight(self, name: str, node: Node, shape: tuple[int, ...]) -> Any:
        """A weight in `shape` (a grouped conv adds a leading dimension): i8 constant, converted and scaled where the
        graph quantizes it, else a float constant.

        The integers are a direct constant in the shape the conv reads: behind a Reshape, depthwise convs stay f32.
        """
        weight = self.graph.weights.get(name)
        if weight is None:
            return self.name(self.ops.constant(self.graph.constant(name, node).reshape(shape)), name)
        integers = self.name(self.ops.constant(weight.values.reshape(shape)), weight.name)
        real = self.ops.convert(integers, "f32")
        scale = self.name(self.ops.constant(spread(weight, shape)), f"{weight.name}{MARK}scale")
        return self.ops.multiply(real, scale)

    def fake_quantize(self, x: Any, grid: Grid, low: float | None = None, high: float | None = None) -> Any:
        """FakeQuantize to 256 levels: -128..127 steps, read from the same range or from `low`..`high`.

        -128 s is exact in float32 for every s, and 127 s for every s that fp16 holds: no scale is rounded.
        """
        scale = np.float32(grid.scale.reshape(()))
        bottom, top = np.float32(-128) * scale, np.float32(127) * scale
        source = (bottom if low is None else np.float32(low), top if high is None else np.float32(high))
        return self.ops.fake_quantize(x, *source, bottom, top, 256)

    def finish(self) -> Any:
        """The model. Unnamed nodes get a name from their place, so that the same graph gives the same file."""
        results = [self.name(self.ops.result(self.made[name]), f"{name}{MARK}result") for name in self.graph.outputs]
        for name, result in zip(self.graph.outputs, results, strict=True):
            result.input_value(0).get_tensor().set_names({name})
        self.parameter.output(0).get_tensor().set_names({self.graph.input})
        model = self.runtime.Model(results, [self.parameter], "edge_unet")
        for place, node in enumerate(model.get_ordered_ops()):
            if node.get_friendly_name() not in self.named:
                node.set_friendly_name(f"{node.get_type_name()}{MARK}{place}")
        return model


def spread(weight: QuantizedWeight, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The scales of a weight, shaped to multiply integers of `shape` (a grouped conv's has one more dimension); a
    scale per tensor stays a scalar."""
    scale = weight.grid.scale.reshape(-1)
    grouped = len(shape) == weight.values.ndim + 1
    if weight.grid.scale.ndim == 0:
        return weight.grid.scale
    if not grouped:
        return scale.reshape([-1 if axis == weight.axis else 1 for axis in range(len(shape))])
    if weight.axis != 0:
        raise GraphError(f"weight {weight.name!r}: a grouped op needs scales on axis 0, received axis {weight.axis}")
    return scale.reshape(shape[0], shape[1], *(1,) * (len(shape) - 2))
