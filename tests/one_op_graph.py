"""Canonical graphs of a single op between Q/DQ pairs, for ops that the tiny network does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_unet.canonical import Metadata, write_metadata
from edge_unet.core.spec import ClassSpec, PreprocessSpec, QuantScheme

SIZE = 8


class OneOp:
    """Nodes between an int8 image (3 channels, SIZE x SIZE) and an int8 "logits"; every tensor gets a Q/DQ pair."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {"zp": np.array(0, np.int8)}
        self.last = self.qdq("image", 1 / 64)

    def qdq(self, name: str, scale: float) -> str:
        """Put a Q/DQ pair behind float tensor `name`."""
        self.constants[f"{name}.s"] = np.array(scale, np.float32)
        self.nodes.append(helper.make_node("QuantizeLinear", [name, f"{name}.s", "zp"], [f"{name}.q"], f"{name}.q"))
        pair = helper.make_node("DequantizeLinear", [f"{name}.q", f"{name}.s", "zp"], [f"{name}.dq"], f"{name}.dq")
        self.nodes.append(pair)
        return f"{name}.dq"

    def weight(self, name: str, values: NDArray[Any], axis: int) -> str:
        """An int8 weight with one scale per index of `axis`."""
        others = tuple(i for i in range(values.ndim) if i != axis)
        scale = (np.abs(values).max(axis=others) / 127).astype(np.float16).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(values.ndim)]
        self.constants[name] = np.clip(np.rint(values / scale.reshape(shape)), -127, 127).astype(np.int8)
        self.constants |= {f"{name}.s": scale, f"{name}.zp": np.zeros(len(scale), np.int8)}
        inputs = [name, f"{name}.s", f"{name}.zp"]
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], f"{name}.dq", axis=axis))
        return f"{name}.dq"

    def op(self, kind: str, name: str, inputs: list[str], scale: float | None, **attributes: Any) -> OneOp:
        """A node; `scale` is that of its Q/DQ pair (None: none)."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        self.last = name if scale is None else self.qdq(name, scale)
        return self

    def write(self, path: Path) -> Path:
        """The canonical file; the last tensor becomes "logits"."""
        for node in self.nodes:
            node.output[:] = ["logits" if name == self.last else name for name in node.output]
        shape = [1, 3, SIZE, SIZE]
        graph = helper.make_graph(
            self.nodes, "g", [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
        classes = ClassSpec(names=("background", "foreground"), palette=((0, 0, 0), (0, 200, 83)))
        spec = PreprocessSpec(height=SIZE, width=SIZE)
        write_metadata(
            model,
            Metadata(
                name="one", model="one", kind="ptq", scheme=QuantScheme.PORTABLE, preprocess=spec, classes=classes
            ),
        )
        path.write_bytes(model.SerializeToString(deterministic=True))
        return path
