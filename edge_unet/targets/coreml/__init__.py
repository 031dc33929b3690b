"""Core ML: the canonical graph as an ML Program (.mlpackage), w8a8 or fp16, and an interpreter of what was saved.

`lower` takes three more choices than the Lowering protocol: `deployment` (iOS17, iOS18), `weight_storage` (int8, uint8)
and `islands` (float32, float16: what float islands compute in); the target uses iOS17, int8 and what `precision` says.
coremltools is imported when a function here is called, never before.
"""

from edge_unet.core.protocols import Target
from edge_unet.core.spec import QuantScheme
from edge_unet.targets.coreml.build import Deployment, WeightStorage
from edge_unet.targets.coreml.lower import PRECISIONS, lower
from edge_unet.targets.coreml.ops import OPS
from edge_unet.targets.coreml.precision import IslandPrecision
from edge_unet.targets.coreml.read_back import read_back
from edge_unet.targets.coreml.runtime import open_session
from edge_unet.targets.coreml.toolchain import EXTRA

TARGET = Target(
    name="ios",
    format=".mlpackage (Core ML ML Program)",
    precisions=PRECISIONS,
    scheme=QuantScheme.PORTABLE,
    ops=frozenset(OPS),
    extra=EXTRA,
    executes_here=False,
    lower=lower,
    open=open_session,
    read_back=read_back,
)

__all__ = ["TARGET", "Deployment", "IslandPrecision", "WeightStorage", "lower", "open_session", "read_back"]
