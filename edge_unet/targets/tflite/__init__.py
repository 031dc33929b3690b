"""Targets `android` and `embedded-linux`: one int8 .tflite file for LiteRT with XNNPACK."""

from __future__ import annotations

from dataclasses import replace

from edge_unet.core.protocols import Target
from edge_unet.core.spec import QuantScheme
from edge_unet.targets.tflite.lower import PRECISIONS, lower_android, lower_embedded_linux
from edge_unet.targets.tflite.ops import OPS
from edge_unet.targets.tflite.read_back import read_back
from edge_unet.targets.tflite.runtime import open_reference_kernels, open_session

ANDROID = Target(
    name="android",
    format=".tflite",
    precisions=PRECISIONS,
    scheme=QuantScheme.PORTABLE,
    ops=frozenset(OPS),
    extra="tflite",
    executes_here=True,
    lower=lower_android,
    open=open_session,
    read_back=read_back,
)
EMBEDDED_LINUX = replace(ANDROID, name="embedded-linux", lower=lower_embedded_linux)
TARGETS = (ANDROID, EMBEDDED_LINUX)

__all__ = ["ANDROID", "EMBEDDED_LINUX", "TARGETS", "open_reference_kernels", "open_session"]
