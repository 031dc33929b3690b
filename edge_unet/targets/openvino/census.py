"""Layers by precision from the graph that OpenVINO's CPU plugin executes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_unet.core.artifact import LayerPlacement
from edge_unet.targets.islands import Islands

NOT_LAYERS = frozenset(
    {"Const", "Input", "Output", "Reorder", "Reshape", "Transpose", "Convert", "DepthToSpace", "SpaceToDepth"}
    | {"StridedSlice", "Slice", "Split", "Pad", "FakeQuantize"}
)
"""Types that only change type, order or extent."""

CANONICAL = {
    "Convolution": "Conv", "Deconvolution": "ConvTranspose", "Concatenation": "Concat", "Interpolate": "Resize",
    "FullyConnected": "MatMul", "Pooling": "Pool", "MVN": "LayerNormalization", "SoftMax": "Softmax",
    "RMS": "LayerNormalization",
}  # fmt: skip
"""The plugin's word -> the canonical op."""

PRECISIONS = {"i8": "int8", "u8": "int8", "f32": "fp32", "bf16": "bf16", "f16": "fp16"}
"""Suffix of an execution type, lower case, -> precision of the arithmetic."""


PRODUCTS = frozenset({"Convolution", "Deconvolution", "FullyConnected", "MatMul"})
"""Types whose arithmetic is that of their inputs. Inside a float island every other type computes in float what it
reads, even where it reads int8: the suffix is that of its inputs."""


def executed_layers(compiled: Any, written: Mapping[str, str], islands: Islands) -> tuple[LayerPlacement, ...]:
    """One placement per layer of a compiled model; the unit is the plugin's execution type, with the float island
    that the layer belongs to. `written` is name -> type of the nodes of the model as it was saved."""
    ordered = compiled.get_runtime_model().get_ordered_ops()
    notes: dict[str, str] = {}
    for node in reversed(ordered):
        notes[node.get_friendly_name()] = _note(node, written, islands, notes)
    layers = []
    for node in ordered:
        facts, name = node.get_rt_info(), node.get_friendly_name()
        kind, unit = str(facts["layerType"].value), str(facts["primitiveType"].value)
        if kind in NOT_LAYERS or _only_rounds(node, written):
            continue
        suffix = unit.rpartition("_")[2].lower()
        precision = PRECISIONS.get(suffix, suffix)
        if notes[name] and precision == "int8" and kind not in PRODUCTS:
            precision = "fp32"
        placed = LayerPlacement(name=name, op=CANONICAL.get(kind, kind), precision=precision, unit=unit + notes[name])
        layers.append(placed)
    return tuple(layers)


def _names(node: Any) -> list[str]:
    """The nodes that a layer was made of, without the scalings that the plugin moves about."""
    facts = node.get_rt_info()
    merged = str(facts["originalLayersNames"].value) if "originalLayersNames" in facts else ""
    names = dict.fromkeys([*merged.split(","), node.get_friendly_name()])
    return [name for name in names if name and "/Dequantization" not in name]


def _only_rounds(node: Any, written: Mapping[str, str]) -> bool:
    """Whether a layer is a quantizer and nothing else; the plugin names those that it moved after their type."""
    names = _names(node)
    return bool(names) and all(written.get(name, name.partition("_")[0]) == "FakeQuantize" for name in names)


def _note(node: Any, written: Mapping[str, str], islands: Islands, notes: Mapping[str, str]) -> str:
    """The island of a layer: that of the nodes it was made of. Where the plugin made it up, as it does the mean of a
    LayerNormalization, that of the layer that reads it."""
    ours = [name for name in _names(node) if name in written]
    if ours:
        return islands.note(name for name in ours if written[name] != "FakeQuantize")
    readers = (reader.get_node() for output in node.outputs() for reader in output.get_target_inputs())
    return next((note for reader in readers if (note := notes.get(reader.get_friendly_name(), ""))), "")
