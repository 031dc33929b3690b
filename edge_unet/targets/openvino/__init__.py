"""Target `cpu`: OpenVINO IR, executed by OpenVINO's CPU plugin."""

from __future__ import annotations

from edge_unet.core.protocols import Target
from edge_unet.core.spec import QuantScheme
from edge_unet.targets.openvino.lower import PRECISIONS, lower
from edge_unet.targets.openvino.ops import OPS
from edge_unet.targets.openvino.read_back import read_back
from edge_unet.targets.openvino.runtime import open_openvino

TARGET = Target(
    name="cpu", format="OpenVINO IR", precisions=PRECISIONS, scheme=QuantScheme.PORTABLE,
    ops=frozenset(OPS), extra="openvino", executes_here=True, lower=lower, open=open_openvino, read_back=read_back,
)  # fmt: skip

__all__ = ["TARGET"]
