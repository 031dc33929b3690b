"""Constants become initializers; identities, dead nodes and unused or repeated small initializers go."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import Sequential, common

SHARED_BYTES = 64
"""Initializers up to this size are shared where they are equal: clip bounds, resize factors, slice limits.
Scales and zero points are per quantizer and keep names of their own."""


def run(model: ir.Model) -> None:
    """Leave only nodes that compute something."""
    Sequential(
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),  # type: ignore[no-untyped-call]  # onnx_ir leaves it unannotated
        common.RemoveUnusedOpsetsPass(),
    )(model)
    _share_constants(model.graph)


def _share_constants(graph: ir.Graph) -> None:
    first: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.nbytes > SHARED_BYTES or _has_own_name(value):
            continue
        shape = tuple(int(d) for d in tensor.shape.numpy())
        kept = first.setdefault((tensor.dtype.name, shape, tensor.tobytes()), value)
        if kept is not value:
            value.replace_all_uses_with(kept)
            del graph.initializers[str(value.name)]


def _has_own_name(value: ir.Value) -> bool:
    """Whether every reader is a quantizer, or a convolution that reads it as weight or bias."""
    return all(
        use.node.op_type in ("QuantizeLinear", "DequantizeLinear", "Conv", "ConvTranspose") for use in value.uses()
    )
