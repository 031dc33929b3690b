"""Exp and Neg of a constant become a constant: the decay rates -exp(log A) of a scan, which no target computes again.

The exporter folds small tensors itself and leaves large ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

FOLDED: Mapping[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {"Exp": np.exp, "Neg": np.negative}


def run(model: ir.Model) -> None:
    """Fold in graph order, so that a chain of them folds whole."""
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type in FOLDED else None
        if source is None or not source.is_initializer() or source.const_value is None:
            continue
        made = node.outputs[0]
        folded = ir.Value(name=f"{made.name}.folded", type=made.type, shape=made.shape)
        values = FOLDED[node.op_type](source.const_value.numpy().astype(np.float32))
        folded.const_value = ir.tensor(values, name=folded.name)
        model.graph.initializers[str(folded.name)] = folded
        made.replace_all_uses_with(folded)
        model.graph.remove(node, safe=True)
