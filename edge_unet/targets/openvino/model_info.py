"""Metadata inside the IR: rt_info/model_info with the keys of OpenVINO's Model API, and the edge_unet blob."""

from __future__ import annotations

from typing import Any

from edge_unet.canonical import METADATA_KEY, Metadata
from edge_unet.core.files import canonical_json
from edge_unet.core.spec import TensorSpec

SECTION = "model_info"
RESIZE = {"stretch": "standard", "letterbox": "fit_to_window_letterbox"}


def write_model_info(model: Any, metadata: Metadata, spec: TensorSpec) -> None:
    """Fill rt_info of an openvino.Model. Mean and scale are those still to be applied: none on a raw u8 frame."""
    preprocess = metadata.preprocess
    raw = spec.dtype == "uint8"
    entries = {
        "model_type": "Segmentation",
        "labels": " ".join(name.replace(" ", "_") for name in metadata.classes.names),
        "layout": f"{spec.name}:{spec.layout}",
        "resize_type": RESIZE[preprocess.resize],
        "pad_value": str(preprocess.pad_value),
        "reverse_input_channels": str(preprocess.color_order == "RGB"),  # Model API frames are BGR
        "mean_values": " ".join(["0" if raw else f"{preprocess.mean:g}"] * preprocess.channels),
        "scale_values": " ".join(["1" if raw else f"{1 / preprocess.scale:g}"] * preprocess.channels),
    }
    for key, value in entries.items():
        model.set_rt_info(value, [SECTION, key])
    model.set_rt_info(canonical_json(metadata.model_dump(mode="json")), [METADATA_KEY])
