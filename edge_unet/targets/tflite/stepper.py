"""Run a .tflite file one op at a time, so that any tensor can be replaced between two ops (teacher forcing).

Every op becomes a model of its own, cut from the file with its tensors and constants; the runtime's kernels compute
it. Slow (one interpreter per op), for verification only.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import require
from edge_unet.targets.tflite.interpreter import Kernels, start
from edge_unet.targets.tflite.model_file import ModelFile
from edge_unet.targets.tflite.writer import aligned_builder, schema

Arrays = dict[int, NDArray[Any]]


class Stepper:
    """Ops of one file as single-op interpreters, made on first use."""

    def __init__(self, file: ModelFile, kernels: Kernels) -> None:
        self._file = file
        self._kernels: Kernels = kernels
        self._steps: dict[int, tuple[Any, list[int], list[int]]] = {}

    def run(self, feeds: Mapping[int, NDArray[Any]], force: Mapping[int, NDArray[Any]]) -> Arrays:
        """Tensor index -> its own value, as computed from forced predecessors. All indices are the file's."""
        own: Arrays = dict(feeds)
        seen: Arrays = {**own, **{index: array for index, array in force.items() if index in own}}
        for place, operator in enumerate(self._file.operators):
            interpreter, inputs, outputs = self._step(place, operator)
            for detail, index in zip(interpreter.get_input_details(), inputs, strict=True):
                interpreter.set_tensor(detail["index"], seen[index])
            interpreter.invoke()
            for detail, index in zip(interpreter.get_output_details(), outputs, strict=True):
                own[index] = interpreter.get_tensor(detail["index"])
                seen[index] = np.asarray(force.get(index, own[index]))
        return own

    def _step(self, place: int, operator: Any) -> tuple[Any, list[int], list[int]]:
        if place not in self._steps:
            data, inputs, outputs = cut_op(self._file, operator)
            self._steps[place] = start(data, self._kernels), inputs, outputs
        return self._steps[place]


def cut_op(file: ModelFile, operator: Any) -> tuple[bytes, list[int], list[int]]:
    """A model that holds `operator` alone, and which tensors of `file` its inputs and outputs are."""
    kinds = schema()
    used = list(dict.fromkeys(int(i) for i in (*operator.inputs, *operator.outputs)))
    model, graph = kinds.ModelT(), kinds.SubGraphT()
    model.version, model.description = 3, "one op"
    model.operatorCodes = [file.model.operatorCodes[operator.opcodeIndex]]
    model.buffers = [kinds.BufferT()]
    graph.tensors = []
    for index in used:
        tensor = copy.copy(file.tensors[index])
        if tensor.buffer:
            model.buffers.append(file.model.buffers[tensor.buffer])
            tensor.buffer = len(model.buffers) - 1
        graph.tensors.append(tensor)
    place = {index: number for number, index in enumerate(used)}
    alone = copy.copy(operator)
    alone.opcodeIndex = 0
    alone.inputs = [place[int(i)] for i in operator.inputs]
    alone.outputs = [place[int(i)] for i in operator.outputs]
    made = {int(i) for i in operator.outputs}
    inputs = [index for index in used if index not in made and file.constant(index) is None]
    outputs = [int(i) for i in operator.outputs]
    graph.operators = [alone]
    graph.inputs, graph.outputs = [place[i] for i in inputs], [place[i] for i in outputs]
    model.subgraphs = [graph]
    builder = aligned_builder(require("flatbuffers", "tflite"))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), inputs, outputs
