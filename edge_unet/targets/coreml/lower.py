"""Canonical ONNX -> Core ML package (ML Program): our own op table, since coremltools has no ONNX front end."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from edge_unet.canonical import METADATA_KEY, CanonicalGraph, Metadata, load_graph, strip_qdq, view_graph
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import GraphError, UsageError
from edge_unet.core.files import bytes_of, canonical_json, sha256_of
from edge_unet.core.spec import Precision, TensorSpec
from edge_unet.targets.coreml.build import Deployment, WeightStorage
from edge_unet.targets.coreml.names import NAMES_KEY, NameTable
from edge_unet.targets.coreml.package import save_package
from edge_unet.targets.coreml.precision import DEFAULT, IslandPrecision, fp16_overflow, in_float32
from edge_unet.targets.coreml.program import build_program, convert_program, image_input
from edge_unet.targets.coreml.toolchain import quiet_coremltools, versions

PRECISIONS = (Precision.INT8, Precision.FP16)
PREVIEW = "com.apple.coreml.model.preview"


def lower(
    canonical: Path,
    precision: Precision,
    *,
    into: Path,
    deployment: Deployment | str = Deployment.IOS17,
    weight_storage: WeightStorage | str = WeightStorage.INT8,
    islands: IslandPrecision | str | None = None,
) -> Artifact:
    """Write `model-<precision>.mlpackage` into the folder `into`.

    INT8 is w8a8: int8 weights behind constexpr ops, quantize/dequantize around every layer, fp16 in between; FP16 is
    the same graph without Q/DQ. The package takes the camera's pixels as an image (the normalisation is inside) and
    gives float32 logits (1, C, H, W). Which unit runs it is chosen when an app loads it (MLModelConfiguration
    .computeUnits), not here. `weight_storage` "uint8" is the way round coremltools issue #2114. `islands` is what float
    islands compute in, float32 or float16; None is float32 for INT8 and float16 for FP16 (`precision` says why).
    Raises GraphError naming the node that cannot be lowered, UsageError on a precision or option that is none,
    MissingBackendError without coremltools. The same input gives the same bytes.
    """
    deployment, weight_storage, islands = _choices(precision, deployment, weight_storage, islands)
    source = load_graph(canonical)
    metadata = source.metadata
    graph = source if precision is Precision.INT8 else view_graph(strip_qdq(source))
    huge = fp16_overflow(graph, islands)
    if huge is not None:
        raise GraphError(f"Core ML: constant {huge!r} exceeds the range of fp16 (65504); rescale the layer it feeds")
    path = into / f"model-{precision.value}.mlpackage"
    with quiet_coremltools():
        program, build = build_program(graph, deployment, weight_storage)
        names = build.table()
        entry = build.names.mil(graph.input)
        image = image_input(entry, graph.shapes[graph.input], metadata.preprocess)
        model = convert_program(program, deployment, image, partial(in_float32, names, islands))
        _save(model, metadata, precision, names, path)
    outputs = tuple(build.names.mil(name) for name in graph.outputs)
    return Artifact(
        path=path.name,
        sha256=sha256_of(path),
        bytes=bytes_of(path),
        target="ios",
        precision=precision,
        inputs=(_input_spec(graph, entry, metadata),),
        outputs=tuple(
            TensorSpec(name=mil, shape=graph.shapes[name], dtype="float32", layout="NCHW")
            for mil, name in zip(outputs, graph.outputs, strict=True)
        ),
        toolchain=versions("coremltools", "onnx", "numpy"),
        parent_sha256=sha256_of(canonical),
        notes=(*_notes(precision, deployment, weight_storage), *_island_notes(names, islands)),
    )


def _save(model: Any, metadata: Metadata, precision: Precision, names: NameTable, path: Path) -> None:
    spec = model.get_spec()  # a copy: what is written into it is what is saved
    _describe(spec.description, metadata, precision)
    _tag(spec.description.metadata.userDefined, metadata, names)
    save_package(model, spec, path)


def _choices(
    precision: Precision,
    deployment: Deployment | str,
    weight_storage: WeightStorage | str,
    islands: IslandPrecision | str | None,
) -> tuple[Deployment, WeightStorage, IslandPrecision]:
    """The options as values. Raises UsageError naming what is offered."""
    if precision not in PRECISIONS:
        known = ", ".join(p.value for p in PRECISIONS)
        raise UsageError(f"Core ML: precision {precision.value!r} is not offered; known: {known}")
    try:
        chosen = DEFAULT[precision] if islands is None else IslandPrecision(islands)
        return Deployment(deployment), WeightStorage(weight_storage), chosen
    except ValueError as error:
        known = ", ".join(option.value for kind in (Deployment, WeightStorage, IslandPrecision) for option in kind)
        raise UsageError(f"Core ML: {error}; known options: {known}") from error


def _input_spec(graph: CanonicalGraph, name: str, metadata: Metadata) -> TensorSpec:
    """(1, H, W, C) raw pixels: real = (pixel - mean) * scale."""
    batch, channels, height, width = graph.shapes[graph.input]
    preprocess = metadata.preprocess
    if preprocess.mean != int(preprocess.mean):
        raise GraphError(f"Core ML: pixel mean {preprocess.mean} is not a whole number; expected a u8 zero point")
    return TensorSpec(
        name=name,
        shape=(batch, height, width, channels),
        dtype="uint8",
        layout="NHWC",
        scale=preprocess.scale,
        zero_point=int(preprocess.mean),
    )


def _describe(description: Any, metadata: Metadata, precision: Precision) -> None:
    """What Xcode shows of the model; `description` is the ModelDescription protobuf."""
    preprocess, classes = metadata.preprocess, metadata.classes
    arithmetic = "int8 weights and activations" if precision is Precision.INT8 else "fp16"
    description.metadata.author = "edge-unet"
    description.metadata.license = metadata.licence
    description.metadata.shortDescription = (
        f"{metadata.name}: {metadata.model} segmentation into {', '.join(classes.names)}; {arithmetic}."
    )
    size = f"{preprocess.width}x{preprocess.height}"
    description.input[
        0
    ].shortDescription = (
        f"{preprocess.color_order} frame of {size} pixels ({preprocess.resize}); the normalisation is inside the model."
    )
    rule = "foreground where the logit is above 0" if classes.channels == 1 else "the class is the argmax of axis 1"
    description.output[0].shortDescription = f"Logits (1, {classes.channels}, height, width) for {size}; {rule}."


def _tag(user: Any, metadata: Metadata, names: NameTable) -> None:
    """User-defined metadata: the edge_unet blob, the name table, and Xcode's segmentation preview."""
    user[METADATA_KEY] = canonical_json(metadata.model_dump(mode="json"))
    user[NAMES_KEY] = names.dump()
    user[f"{PREVIEW}.type"] = "imageSegmenter"
    colors = ["#{:02X}{:02X}{:02X}".format(*colour) for colour in metadata.classes.palette]
    user[f"{PREVIEW}.params"] = json.dumps({"labels": list(metadata.classes.names), "colors": colors})


def _notes(precision: Precision, deployment: Deployment, weight_storage: WeightStorage) -> tuple[str, ...]:
    """What a reader of the manifest must know."""
    notes = [
        f"minimum deployment target {deployment.value}",
        "verified by an interpreter of the saved package: MIL semantics, not the Neural Engine's own rounding",
        "compute units are chosen when the app loads the model; use the Neural Engine for w8a8",
    ]
    if precision is Precision.INT8 and weight_storage is WeightStorage.UINT8:
        notes.append("weights stored as uint8 with zero point 127 (coremltools issue #2114); the integers are the same")
    return tuple(notes)


def _island_notes(names: NameTable, islands: IslandPrecision) -> tuple[str, ...]:
    """What stays float, and in which type."""
    count = len(set(names.islands.values()))
    units = ": GPU or CPU, the Neural Engine has no float32" if islands is IslandPrecision.FLOAT32 else ""
    return (f"{count} float islands compute in {islands.value}{units}",) if count else ()
