"""Read a .tflite file back: its tensors by canonical name, its ops, the blob that the lowering left in it."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import ArtifactError
from edge_unet.core.files import sha256_of
from edge_unet.targets.tflite.layout import Order
from edge_unet.targets.tflite.writer import METADATA_NAME, schema


@dataclass(frozen=True, slots=True)
class Held:
    """A canonical tensor in the file: tensor index, and the ONNX axis that lies at each of its axes."""

    index: int
    order: Order


@dataclass(frozen=True)
class ModelFile:
    """A parsed file. Tensor indices are those of its only subgraph."""

    data: bytes
    model: Any
    blob: Mapping[str, Any]

    @property
    def tensors(self) -> Any:
        """The schema's TensorT objects."""
        return self.model.subgraphs[0].tensors

    @property
    def operators(self) -> Any:
        """The schema's OperatorT objects, in execution order."""
        return self.model.subgraphs[0].operators

    @cached_property
    def canonical(self) -> Mapping[str, Held]:
        """Canonical activation name -> where it lies in the file, in graph order."""
        return {name: Held(place["tensor"], tuple(place["order"])) for name, place in self.blob["activations"].items()}

    def code(self, operator: Any) -> str:
        """The builtin op's name, for example CONV_2D."""
        return builtin_names()[self.model.operatorCodes[operator.opcodeIndex].builtinCode]

    def constant(self, index: int) -> NDArray[Any] | None:
        """The payload of a constant tensor in its own shape and type, else None."""
        tensor = self.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or tensor.buffer == 0:
            return None
        return np.asarray(data, np.uint8).view(_element_types()[tensor.type]).reshape(np.asarray(tensor.shape, int))

    @cached_property
    def inputs(self) -> Mapping[str, int]:
        """Public input name -> tensor index."""
        return {entry.name.decode(): int(entry.tensorIndex) for entry in self.model.signatureDefs[0].inputs}

    @cached_property
    def outputs(self) -> Mapping[str, int]:
        """Public output name -> tensor index."""
        return {entry.name.decode(): int(entry.tensorIndex) for entry in self.model.signatureDefs[0].outputs}


@cache
def builtin_names() -> Mapping[int, str]:
    """Number -> name of the schema's BuiltinOperator enum."""
    return {value: name for name, value in vars(schema().BuiltinOperator).items() if isinstance(value, int)}


@cache
def _element_types() -> Mapping[int, type[np.float32] | type[np.int8] | type[np.int32]]:
    """Number of the schema's TensorType enum -> numpy type, for the types this package writes."""
    kinds = schema().TensorType
    return {kinds.FLOAT32: np.float32, kinds.INT8: np.int8, kinds.INT32: np.int32}


def read_model(folder: Path, artifact: Artifact) -> ModelFile:
    """Parse an artifact's file. Raises ArtifactError where it is missing, changed, truncated or not ours."""
    path = folder / artifact.path
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; export the bundle again")
    if sha256_of(path) != artifact.sha256:
        raise ArtifactError(
            f"{path}: damaged or replaced: expected sha256 {artifact.sha256[:12]}… ({artifact.bytes} bytes), received "
            f"{sha256_of(path)[:12]}… ({path.stat().st_size} bytes); export the bundle again"
        )
    return parse_model(path.read_bytes(), str(path))


def parse_model(data: bytes, source: str) -> ModelFile:
    """Parse the bytes of a file written by this package. Raises ArtifactError otherwise."""
    if data[4:8] != b"TFL3":
        raise ArtifactError(f"{source}: expected a TFLite flatbuffer (identifier TFL3), received {data[4:8]!r}")
    try:
        model = schema().ModelT.InitFromPackedBuf(data, 0)
        entries = {entry.name.decode(): model.buffers[entry.buffer].data for entry in model.metadata or ()}
    except (struct.error, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{source}: damaged or truncated TFLite file ({error}); export it again") from error
    if METADATA_NAME not in entries:
        raise ArtifactError(f"{source}: no {METADATA_NAME!r} metadata; expected a file written by edge-unet export")
    return ModelFile(data, model, json.loads(bytes(entries[METADATA_NAME])))
