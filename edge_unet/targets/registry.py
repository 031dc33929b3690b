"""The registry of targets. Toolchains are imported only when a target lowers or opens something."""

from __future__ import annotations

from collections.abc import Mapping

from edge_unet.core.protocols import Target
from edge_unet.core.registry import registry
from edge_unet.targets import coreml, mcu, onnxruntime, openvino, tensorrt, tflite

TARGETS: Mapping[str, Target] = registry(
    (target.name, target)
    for target in (openvino.TARGET, *tflite.TARGETS, coreml.TARGET, tensorrt.TARGET, onnxruntime.TARGET, mcu.TARGET)
)

__all__ = ["TARGETS"]
