"""Collects the ONNX nodes that stand for a MIL program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

from edge_unet.core.errors import GraphError

OPSET = 21
IR_VERSION = 10


class Writer:
    """MIL variables by name -> ONNX tensors. Floats are float32; `store` rounds those MIL declares fp16."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.tensors: dict[str, str] = {}

    def array(self, value: ArrayLike) -> str:
        """A constant as an ONNX tensor; fp16 is widened, int32 becomes the int64 that ONNX shapes are."""
        wide = {"float16": np.float32, "float64": np.float32, "int32": np.int64}
        array = np.asarray(value)
        fixed = np.ascontiguousarray(array.astype(wide.get(array.dtype.name, array.dtype))).reshape(array.shape)
        name = f"const_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(fixed, name))
        return name

    def emit(
        self, kind: str, inputs: Sequence[str], attributes: Mapping[str, Any] | None = None, *, outputs: int = 1
    ) -> list[str]:
        """One ONNX node; returns the names of its outputs."""
        number = len(self.nodes)
        names = [f"{kind}_{number}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, f"{kind}_{number}", **dict(attributes or {})))
        return names

    def operand(self, op: Any, key: str) -> str:
        """The ONNX tensor of MIL input `key`. Raises GraphError where the op has none."""
        variable = op.inputs.get(key)
        if variable is None:
            raise GraphError(f"MIL op {op.name!r} ({op.op_type}): input {key!r} is missing; export the model again")
        return self.tensor(variable)

    def tensor(self, variable: Any) -> str:
        """The ONNX tensor of a MIL variable; constants are written on first use."""
        if variable.name not in self.tensors:
            if variable.val is None:
                raise GraphError(f"MIL variable {variable.name!r} is used before it is made; export the model again")
            self.tensors[variable.name] = self.array(variable.val)
        return self.tensors[variable.name]

    def store(self, variable: Any, tensor: str, *, in_memory: bool = True) -> None:
        """Bind a MIL variable, rounding through fp16 where the program declares it fp16 and it exists in memory."""
        if in_memory and is_fp16(variable):
            half = self.emit("Cast", [tensor], {"to": TensorProto.FLOAT16})
            (tensor,) = self.emit("Cast", half, {"to": TensorProto.FLOAT})
        self.tensors[variable.name] = tensor

    def model(
        self,
        inputs: Sequence[tuple[str, int, tuple[int, ...]]],
        outputs: Mapping[str, tuple[str, int]],
    ) -> onnx.ModelProto:
        """The finished model: `inputs` (name, element type, shape), `outputs` name -> (tensor, element type)."""
        named = [helper.make_node("Identity", [tensor], [name]) for name, (tensor, _) in outputs.items()]
        graph = helper.make_graph(
            [*self.nodes, *named],
            "mil",
            [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
            [helper.make_tensor_value_info(name, kind, None) for name, (_, kind) in outputs.items()],
            self.initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def is_fp16(variable: Any) -> bool:
    """Whether MIL declares the variable fp16."""
    from coremltools.converters.mil.mil import types

    return bool(variable.dtype is types.fp16)


def setting(op: Any, key: str, default: Any) -> Any:
    """A constant parameter of a MIL op as a plain value (str, bool, number or array)."""
    variable = op.inputs.get(key)
    value = default if variable is None else variable.val
    return value.item() if isinstance(value, np.generic) else value


def integers(op: Any, key: str, default: Sequence[int]) -> list[int]:
    """A constant integer list parameter."""
    return [int(v) for v in np.asarray(setting(op, key, default)).reshape(-1)]


def refuse(op: Any, what: str, received: object) -> GraphError:
    """The error for a MIL parameter the interpreter does not model."""
    return GraphError(f"MIL op {op.name!r} ({op.op_type}): {what} {received!r} is not modelled by the interpreter")
