"""Target `onnx`: ONNX Runtime on the CPU. `reference` holds the session that every target is compared with."""

from __future__ import annotations

from edge_unet.core.protocols import Target
from edge_unet.core.spec import QuantScheme
from edge_unet.targets.onnxruntime.lower import PRECISIONS, lower
from edge_unet.targets.onnxruntime.ops import OPS
from edge_unet.targets.onnxruntime.read_back import read_back
from edge_unet.targets.onnxruntime.runtime import open_onnx

TARGET = Target(
    name="onnx", format="ONNX for ONNX Runtime", precisions=PRECISIONS, scheme=QuantScheme.PORTABLE,
    ops=frozenset(OPS), extra="onnx", executes_here=True, lower=lower, open=open_onnx, read_back=read_back,
)  # fmt: skip

__all__ = ["TARGET"]
