"""A manifest's values as literals of C++, Kotlin and Swift."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from edge_unet.core.artifact import Artifact
from edge_unet.core.spec import ClassSpec, PreprocessSpec, TensorSpec

Quote = Callable[[str], str]


def cpp(name: str, artifact: Artifact, preprocess: PreprocessSpec, classes: ClassSpec) -> dict[str, str]:
    """Values of edge_unet_model.hpp.template."""
    values = _common(quoted, name, artifact, preprocess, classes)
    for side, spec in _sides(artifact):
        values[f"{side}_dtype"] = _enum(spec.dtype)
        values[f"{side}_layout"] = _enum(spec.layout)
    values["color_order"] = _enum(preprocess.color_order)
    values["resize"] = _enum(preprocess.resize)
    values["palette"] = _list("{" + ", ".join(map(str, colour)) + "}" for colour in classes.palette)
    values["classes"] = str(len(classes.names))
    return values


def kotlin(name: str, artifact: Artifact, preprocess: PreprocessSpec, classes: ClassSpec) -> dict[str, str]:
    """Values of EdgeUnetModel.kt.template."""
    values = _common(lambda text: quoted(text).replace("$", "\\$"), name, artifact, preprocess, classes)
    values["palette"] = _list("0x{:02X}{:02X}{:02X}".format(*colour) for colour in classes.palette)
    return values


def swift(name: str, artifact: Artifact, preprocess: PreprocessSpec, classes: ClassSpec) -> dict[str, str]:
    """Values of EdgeUnetModel.swift.template."""
    values = _common(quoted, name, artifact, preprocess, classes)
    values["palette"] = _list("(" + ", ".join(map(str, colour)) + ")" for colour in classes.palette)
    return values


def quoted(text: str) -> str:
    """A string literal that C++ and Swift read alike; a control character becomes a blank."""
    plain = "".join(letter if letter.isprintable() else " " for letter in text)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def number(value: float) -> str:
    """The float32 nearest to `value`, with as many digits as give it back, and a decimal point."""
    text = f"{float(np.float32(value)):.9g}"
    return text if "." in text or "e" in text else f"{text}.0"


def _common(
    quote: Quote, name: str, artifact: Artifact, preprocess: PreprocessSpec, classes: ClassSpec
) -> dict[str, str]:
    """What the languages write alike."""
    values = {
        "name": quote(name),
        "target": quote(artifact.target),
        "precision": quote(artifact.precision.value),
        "artifact": quote(artifact.path),
        "sha256": quote(artifact.sha256),
        "height": str(preprocess.height),
        "width": str(preprocess.width),
        "channels": str(preprocess.channels),
        "color_order": quote(preprocess.color_order),
        "resize": quote(preprocess.resize),
        "mean": number(preprocess.mean),
        "scale": number(preprocess.scale),
        "pad_value": str(preprocess.pad_value),
        "output_names": _list(quote(spec.name) for spec in artifact.outputs),
        "class_names": _list(map(quote, classes.names)),
    }
    for side, spec in _sides(artifact):
        channels, height, width = (spec.shape[place] for place in ((1, 2, 3) if spec.layout == "NCHW" else (3, 1, 2)))
        values |= {
            f"{side}_name": quote(spec.name),
            f"{side}_shape": _list(map(str, spec.shape)),
            f"{side}_dtype": quote(spec.dtype),
            f"{side}_layout": quote(spec.layout),
            f"{side}_has_grid": "true" if spec.scale is not None else "false",
            f"{side}_scale": number(spec.scale if spec.scale is not None else 1.0),
            f"{side}_zero_point": str(spec.zero_point or 0),
            f"{side}_channels": str(channels),
            f"{side}_height": str(height),
            f"{side}_width": str(width),
        }
    return values


def _sides(artifact: Artifact) -> tuple[tuple[str, TensorSpec], ...]:
    return ("input", artifact.inputs[0]), ("output", artifact.outputs[0])


def _list(items: Iterable[str]) -> str:
    return ", ".join(items)


def _enum(word: str) -> str:
    """The enumerator of types.hpp: int8 -> kInt8, uint8 -> kUint8, RGB -> kRgb, stretch -> kStretch."""
    return "k" + word.capitalize()
