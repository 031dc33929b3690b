"""Target `jetson`: a build kit that makes TensorRT engines on the device, because engines are not portable."""

from __future__ import annotations

from edge_unet.core.protocols import Target
from edge_unet.core.spec import QuantScheme
from edge_unet.targets.tensorrt.lower import PRECISIONS, lower
from edge_unet.targets.tensorrt.read_back import read_back
from edge_unet.targets.tensorrt.rules import OPS
from edge_unet.targets.tensorrt.runtime import open_kit

TARGET = Target(
    name="jetson", format="TensorRT build kit", precisions=PRECISIONS, scheme=QuantScheme.PORTABLE,
    ops=OPS, extra="tensorrt", executes_here=False, lower=lower, open=open_kit, read_back=read_back, float_output=True,
)  # fmt: skip

__all__ = ["TARGET"]
