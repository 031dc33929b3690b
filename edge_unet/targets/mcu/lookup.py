"""Functions of one int8 tensor as tables: every code is looked up among 256, which are the reference's own.

TFLite's int8 LOGISTIC and TANH write on grids of their own and must be rounded a second time, which moves a quarter of
the codes; for other functions there is no int8 kernel. GATHER of a constant table is exact and exists everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import Node
from edge_unet.core.artifact import Grid
from edge_unet.core.errors import GraphError
from edge_unet.targets.tflite.build import SCRATCH, Build, quantization_of
from edge_unet.targets.tflite.ops import Op

Reals = NDArray[np.float64]
Function = Callable[[Reals], Reals]

FUNCTIONS: Mapping[str, Function] = {
    "Exp": np.exp,
    "Log": np.log,
    "Neg": np.negative,
    "Sigmoid": lambda real: 1 / (1 + np.exp(-real)),
    "Softplus": lambda real: np.logaddexp(0.0, real),
    "Sqrt": np.sqrt,
    "Tanh": np.tanh,
}
"""ONNX op type -> what it computes."""


def lookup_of(function: Function) -> Op:
    """The lowering of a node that computes `function`."""
    return lambda b, node: table(b, node, function)


def gelu(b: Build, node: Node) -> None:
    """Gelu, exact or with tanh."""
    if str(node.attributes.get("approximate", "none")) == "tanh":
        table(b, node, lambda x: 0.5 * x * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
        return
    table(b, node, lambda x: 0.5 * x * (1 + np.array([erf(value / sqrt(2)) for value in x])))


def table(b: Build, node: Node, function: Function) -> None:
    """CAST to int32, ADD 128, GATHER from a table of 256 int8 codes: index 0 is code -128."""
    x = b.value(node.inputs[0], node)
    destination = b.destination(node)
    if x.grid is None or destination.grid is None:
        raise GraphError(f"node {node.name!r} ({node.op}): float here; target mcu computes in integers only")
    base = f"{node.name}{SCRATCH}"
    codes = table_of(function, x.grid, destination.grid)
    held = b.writer.tensor(f"{base}table", codes.shape, "INT8", quantization_of(destination.grid), codes)
    wide, index = (b.writer.tensor(f"{base}{suffix}", x.shape, "INT32") for suffix in ("wide", "index"))
    offset = b.writer.tensor(f"{base}128", (), "INT32", None, np.array(128, np.int32))
    b.writer.op("CAST", [x.index], [wide], ("CastOptions", {}))
    b.writer.op("ADD", [wide, offset], [index], ("AddOptions", {}))
    result = b.create(destination, x.order)
    b.writer.op("GATHER", [held, index], [result.index], ("GatherOptions", {"axis": 0}))


def table_of(function: Function, source: Grid, result: Grid) -> NDArray[np.int8]:
    """(256,) codes: what the reference makes of code -128, -127, …, 127. Undefined results (the logarithm of a
    negative number) saturate as infinities do."""
    real = (np.arange(-128, 128) - source.zero_point) * np.float64(source.scale)
    with np.errstate(all="ignore"):
        value = np.nan_to_num(function(real).astype(np.float32), nan=-np.inf)
        codes = np.rint(value / np.float32(result.scale)) + result.zero_point
    return np.asarray(np.clip(codes, -128, 127), np.int8)
