"""Layers by precision from the graph that OpenVINO's CPU plugin executes."""

from __future__ import annotations

from typing import Any

from edge_unet.core.artifact import LayerPlacement

NOT_LAYERS = frozenset(
    {"Const", "Input", "Output", "Reorder", "Reshape", "Transpose", "Convert", "DepthToSpace", "SpaceToDepth"}
    | {"StridedSlice", "Slice", "Pad", "FakeQuantize"}
)
"""Types that only change type, order or extent."""

CANONICAL = {
    "Convolution": "Conv", "Deconvolution": "ConvTranspose", "Concatenation": "Concat", "Interpolate": "Resize",
    "FullyConnected": "MatMul", "Pooling": "Pool", "MVN": "LayerNormalization", "SoftMax": "Softmax",
}  # fmt: skip
"""The plugin's word -> the canonical op."""

PRECISIONS = {"i8": "int8", "u8": "int8", "f32": "fp32", "bf16": "bf16", "f16": "fp16"}
"""Suffix of an execution type, lower case, -> precision of the arithmetic."""


def executed_layers(compiled: Any) -> tuple[LayerPlacement, ...]:
    """One placement per layer of a compiled model; the unit is the plugin's execution type."""
    layers = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        kind, unit = str(facts["layerType"].value), str(facts["primitiveType"].value)
        if kind in NOT_LAYERS:
            continue
        suffix = unit.rpartition("_")[2].lower()
        precision = PRECISIONS.get(suffix, suffix)
        layers.append(
            LayerPlacement(name=node.get_friendly_name(), op=CANONICAL.get(kind, kind), precision=precision, unit=unit)
        )
    return tuple(layers)
