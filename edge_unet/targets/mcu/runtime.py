"""Open an `mcu` artifact on TFLite Micro: the same kernels a microcontroller runs, on this machine's CPU.

What it computes is what the device computes; how long it takes says nothing about the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.artifact import Artifact, Census, Codes, LayerPlacement
from edge_unet.core.errors import UsageError
from edge_unet.core.protocols import Session
from edge_unet.core.spec import Tensors
from edge_unet.targets.feeds import check_feeds, check_forced
from edge_unet.targets.mcu.micro import runtime_name, start
from edge_unet.targets.mcu.vela import Estimates, read_estimates
from edge_unet.targets.tflite.layout import moves, plain
from edge_unet.targets.tflite.model_file import ModelFile, read_model
from edge_unet.targets.tflite.runtime import LiteRTSession
from edge_unet.targets.tflite.stepper import cut_op

TIES_TO_EVEN = "the same file on LiteRT with XNNPACK, which rounds once and ties to even, as the reference does"

Arrays = dict[int, NDArray[Any]]


class MicroSession:
    """Session, LayerSession and ModelledSession on TFLite Micro."""

    def __init__(self, file: ModelFile, artifact: Artifact, estimates: Estimates | None) -> None:
        self._file = file
        self._artifact = artifact
        self._estimates = estimates
        self._interpreter = start(file.data)
        self._open: Any = None
        self._steps: dict[int, tuple[Any, list[int], list[int]]] = {}

    @property
    def artifact(self) -> Artifact:
        """The artifact this session runs."""
        return self._artifact

    @property
    def runtime(self) -> str:
        """Names the runtime, and that no microcontroller is here."""
        return f"{runtime_name()} on this CPU, no microcontroller"

    def infer(self, feeds: Tensors) -> Tensors:
        """{"image": (1, H, W, C) int8} -> {"logits": (1, H, W, classes) int8}."""
        check_feeds(feeds, self._artifact)
        for place, name in enumerate(self._file.inputs):
            self._interpreter.set_input(feeds[name], place)
        self._interpreter.invoke()
        return {name: self._interpreter.get_output(place) for place, name in enumerate(self._file.outputs)}

    def census(self) -> Census:
        """Every op of the file. All are integer arithmetic; the unit is where Vela places it, if Vela compiled it."""
        rows = self._estimates.rows if self._estimates else ()
        cpu = {row.accelerator: {op.name for op in row.cpu_ops} for row in rows}
        layers = []
        for operator in self._file.operators:
            name = self._file.tensors[int(operator.outputs[0])].name.decode()
            layers.append(
                LayerPlacement(name=name, op=self._file.code(operator), precision="int8", unit=_unit(name, cpu))
            )
        source = f"{runtime_name()}, reference kernels"
        if self._estimates is not None:
            source = f"placement by Vela {self._estimates.vela} for {', '.join(cpu)}; executed by {source}"
        return Census(layers=tuple(layers), source=source)

    def other_models(self) -> Mapping[str, Session]:
        """The same file on kernels that round as the reference does: what differs from `infer` is rounding alone."""
        return {TIES_TO_EVEN: LiteRTSession(self._file, self._artifact, "xnnpack", 1)}

    def codes(self, feeds: Tensors, *, force: Codes | None = None) -> Codes:
        """int8 codes of every canonical activation, NCHW.

        With `force`, the ops run one by one and each tensor named there is replaced after its own was recorded.
        Raises UsageError on a name in `force` that the file does not have.
        """
        check_feeds(feeds, self._artifact)
        check_forced(force or {}, self._file.canonical)
        tensors = self._step_by_step(feeds, force) if force else self._at_once(feeds)
        return {
            name: np.ascontiguousarray(tensors[held.index].transpose(moves(held.order, plain(len(held.order)))))
            for name, held in self._file.canonical.items()
        }

    def _at_once(self, feeds: Tensors) -> Arrays:
        if self._open is None:
            self._open = start(self._file.data, keep_all_tensors=True)
        for place, name in enumerate(self._file.inputs):
            self._open.set_input(feeds[name], place)
        self._open.invoke()
        return {
            held.index: self._open.GetTensor(held.index, 0)["tensor_data"] for held in self._file.canonical.values()
        }

    def _step_by_step(self, feeds: Tensors, force: Codes) -> Arrays:
        """Tensor index -> its own value, as computed from forced predecessors."""
        held = self._file.canonical
        forced = {held[name].index: np.ascontiguousarray(codes.transpose(held[name].order), np.int8)
                  for name, codes in force.items()}  # fmt: skip
        own: Arrays = {index: feeds[name] for name, index in self._file.inputs.items()}
        seen: Arrays = {index: forced.get(index, array) for index, array in own.items()}
        for place, operator in enumerate(self._file.operators):
            if place not in self._steps:
                model, inputs, outputs = cut_op(self._file, operator)
                self._steps[place] = start(model), inputs, outputs
            interpreter, inputs, outputs = self._steps[place]
            for number, index in enumerate(inputs):
                interpreter.set_input(seen[index], number)
            interpreter.invoke()
            for number, index in enumerate(outputs):
                own[index] = interpreter.get_output(number)
                seen[index] = forced.get(index, own[index])
        return own


def _unit(name: str, cpu: dict[str, set[str]]) -> str:
    """'Ethos-U', 'CPU', or for which accelerators it is the CPU; without Vela the kernels that ran here."""
    if not cpu:
        return "TFLite Micro kernel"
    left = [accelerator for accelerator, names in cpu.items() if name in names]
    if not left:
        return "Ethos-U"
    return "CPU" if len(left) == len(cpu) else f"CPU with {', '.join(left)}, else Ethos-U"


@contextmanager
def open_session(folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False) -> Iterator[MicroSession]:
    """Open an artifact on TFLite Micro, which has one thread whatever `threads` says.

    Raises UsageError for bf16, ArtifactError where the file is missing, changed or refused by TFLite Micro,
    MissingBackendError without tflite-micro.
    """
    if bf16:
        raise UsageError(f"target {artifact.target!r} computes in integers; it has no bfloat16, leave bf16 out")
    yield MicroSession(read_model(folder, artifact), artifact, read_estimates(folder))
