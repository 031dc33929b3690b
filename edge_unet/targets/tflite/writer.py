"""Write a TFLite flatbuffer tensor by tensor and op by op, on the schema's own object API.

Knows the file format and nothing of networks: buffers aligned to 16 bytes, one entry per used (op, version), the
signature, the metadata. The same calls give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import require
from edge_unet.targets.tflite.versions import BROADCASTING, minimum_runtime, op_version

ElementType = Literal["FLOAT32", "INT8", "INT32"]

SIGNATURE = "serving_default"
"""The signature key that LiteRT's tools look for first."""

METADATA_NAME = "edge_unet"
"""Name of the metadata entry that holds our JSON."""

BUFFER_ALIGNMENT_BYTES = 16
"""force_align of Buffer.data in the schema: kernels and microcontrollers read constants in place."""


def schema() -> Any:
    """The generated schema module. Raises MissingBackendError without ai-edge-litert."""
    return require("ai_edge_litert.schema_py_generated", "tflite")


@dataclass(frozen=True, slots=True)
class Quantization:
    """Scales of a tensor in the file: one, or one per index of `axis`. real = (q - zero_point) * scale."""

    scale: NDArray[np.float32]  # (1,) or (channels,)
    zero_point: int = 0
    axis: int = 0


class ModelWriter:
    """Collects one subgraph; `finish` returns the file."""

    def __init__(self, description: str) -> None:
        self._schema = schema()
        self._graph = self._schema.SubGraphT()
        self._graph.name = "main"
        self._graph.tensors, self._graph.operators = [], []
        self._model = self._schema.ModelT()
        self._model.version = 3
        self._model.description = description
        self._model.subgraphs = [self._graph]
        self._model.operatorCodes = []
        self._model.buffers = [self._schema.BufferT()]  # buffer 0 is the empty one by convention
        self._codes: dict[tuple[str, int], int] = {}

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        element: ElementType,
        quantization: Quantization | None = None,
        data: NDArray[Any] | None = None,
    ) -> int:
        """Add a tensor and return its index; `data` makes it a constant."""
        tensor = self._schema.TensorT()
        tensor.name = name
        tensor.shape = [int(size) for size in shape]
        tensor.type = getattr(self._schema.TensorType, element)
        tensor.buffer = 0 if data is None else self._buffer(data.tobytes())
        tensor.hasRank = True
        if quantization is not None:
            grid = self._schema.QuantizationParametersT()
            grid.scale = [float(value) for value in quantization.scale]
            grid.zeroPoint = [quantization.zero_point] * quantization.scale.size
            grid.quantizedDimension = quantization.axis
            tensor.quantization = grid
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def name_of(self, index: int) -> str:
        """The name of a tensor that was added."""
        return str(self._graph.tensors[index].name)

    @property
    def ops(self) -> int:
        """How many ops have been added."""
        return len(self._graph.operators)

    def op(
        self,
        code: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: tuple[str, Mapping[str, Any]] | None = None,
        *,
        grouped: bool = False,
    ) -> None:
        """Add builtin op `code`; `options` = (schema options table, its fields)."""
        fields = dict(options[1]) if options else {}
        key = (code, self._version(code, inputs, outputs, {**fields, "grouped": grouped}))
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._code(key)
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options:
            table = getattr(self._schema, f"{options[0]}T")()
            for field, value in fields.items():
                if not hasattr(table, field):
                    raise AttributeError(f"{options[0]} has no field {field!r}")
                setattr(table, field, value)
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options[0])
            operator.builtinOptions = table
        self._graph.operators.append(operator)

    def choice(self, enum: str, member: str) -> int:
        """A schema enum's number, for example choice("Padding", "SAME")."""
        return int(getattr(getattr(self._schema, enum), member))

    def finish(self, inputs: Mapping[str, int], outputs: Mapping[str, int], metadata_json: str) -> bytes:
        """The file. `inputs` and `outputs` are the signature: public name -> tensor index."""
        flatbuffers = require("flatbuffers", "tflite")
        self._graph.inputs, self._graph.outputs = list(inputs.values()), list(outputs.values())
        self._model.signatureDefs = [self._signature(inputs, outputs)]
        runtime = minimum_runtime(set(self._codes)).encode().ljust(16, b"\0")  # the field is 16 bytes wide
        self._model.metadata = [
            self._metadata("min_runtime_version", runtime),
            self._metadata(METADATA_NAME, metadata_json.encode()),
        ]
        builder = aligned_builder(flatbuffers)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _buffer(self, data: bytes) -> int:
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        self._model.buffers.append(buffer)
        return len(self._model.buffers) - 1

    def _code(self, key: tuple[str, int]) -> int:
        if key not in self._codes:
            code = self._schema.OperatorCodeT()
            code.builtinCode = getattr(self._schema.BuiltinOperator, key[0])
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # what runtimes before 2.4 read
            code.version = key[1]
            self._model.operatorCodes.append(code)
            self._codes[key] = len(self._codes)
        return self._codes[key]

    def _version(self, code: str, inputs: Sequence[int], outputs: Sequence[int], options: Mapping[str, Any]) -> int:
        tensors = [self._graph.tensors[index] for index in (*inputs, *outputs)]
        int8 = any(tensor.type == self._schema.TensorType.INT8 for tensor in tensors[: len(inputs)])
        rescale = 0.0
        if code == "MUL" and int8:
            first, second, result = (tensor.quantization.scale[0] for tensor in tensors)
            rescale = first * second / result
        shapes = [tuple(tensor.shape) for tensor in tensors[: len(inputs)]]
        rank = max(map(len, shapes)) if code in BROADCASTING else len(shapes[0])
        broadcast = code in BROADCASTING and len(set(shapes)) > 1
        return op_version(code, int8=int8, options=options, rank=rank, broadcast=broadcast, mul_rescale=rescale)

    def _signature(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> Any:
        signature = self._schema.SignatureDefT()
        signature.signatureKey = SIGNATURE
        signature.inputs = [self._named(name, index) for name, index in inputs.items()]
        signature.outputs = [self._named(name, index) for name, index in outputs.items()]
        return signature

    def _named(self, name: str, index: int) -> Any:
        entry = self._schema.TensorMapT()
        entry.name, entry.tensorIndex = name, index
        return entry

    def _metadata(self, name: str, data: bytes) -> Any:
        entry = self._schema.MetadataT()
        entry.name, entry.buffer = name, self._buffer(data)
        return entry


def aligned_builder(flatbuffers: Any) -> Any:
    """A flatbuffers.Builder that honours force_align of byte buffers, which the generated Python code forgets."""

    class AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
            """As the base class does it, but byte buffers start where kernels may read them in place."""
            wide = BUFFER_ALIGNMENT_BYTES if elemSize == 1 else alignment
            return super().StartVector(elemSize, numElems, wide)

    return AlignedBuilder(1 << 20)
