"""Open a .tflite artifact on LiteRT: with XNNPACK as a phone runs it, or on the reference kernels for verification."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.artifact import Artifact, Census, Codes, LayerPlacement
from edge_unet.core.errors import UsageError
from edge_unet.core.registry import nearest
from edge_unet.core.spec import Precision, Tensors
from edge_unet.targets.feeds import check_feeds
from edge_unet.targets.tflite.interpreter import Kernels, delegated, partitions, runtime_name, start
from edge_unet.targets.tflite.layout import moves, plain, standing
from edge_unet.targets.tflite.model_file import ModelFile, read_model
from edge_unet.targets.tflite.stepper import Stepper


class LiteRTSession:
    """Session and LayerSession on a .tflite file.

    `infer` uses the kernels the session was opened with. A delegate hides what lies between its border tensors, so
    `codes` always comes from the reference kernels, which keep every tensor.
    """

    def __init__(self, file: ModelFile, artifact: Artifact, kernels: Kernels, threads: int) -> None:
        self._file = file
        self._artifact = artifact
        self._kernels: Kernels = kernels
        self._interpreter = start(file.data, kernels, threads=threads)
        self._open: Any = None
        self._stepper: Stepper | None = None

    @property
    def artifact(self) -> Artifact:
        """The artifact this session runs."""
        return self._artifact

    @property
    def runtime(self) -> str:
        """'litert <version>, <kernels>'."""
        return runtime_name(self._kernels)

    def infer(self, feeds: Tensors) -> Tensors:
        """{"image": (1, H, W, C)} -> {"logits": (1, H, W, classes)}, int8 or float32 as in the artifact."""
        check_feeds(feeds, self._artifact)
        for name, index in self._file.inputs.items():
            self._interpreter.set_tensor(index, feeds[name])
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(index) for name, index in self._file.outputs.items()}

    def census(self) -> Census:
        """Every op of the file: its arithmetic by the types of its tensors, its unit by the delegate's partitions."""
        inside = delegated(self._interpreter)
        own = "reference kernel" if self._kernels == "reference" else "built-in kernel"
        layers = []
        for operator in self._file.operators:
            index = int(operator.outputs[0])
            layers.append(
                LayerPlacement(
                    name=self._file.tensors[index].name.decode(),
                    op=self._file.code(operator),
                    precision=self._precision(operator),
                    unit="XNNPACK" if index in inside else own,
                )
            )
        pieces = partitions(self._interpreter)
        islands = self._file.blob["islands"]
        source = f"delegate partition ({pieces} DELEGATE node{'s' * (pieces != 1)})"
        if islands:
            source += (
                f"; {sum(islands.values())} float ops in {len(islands)} declared island{'s' * (len(islands) != 1)}"
            )
        return Census(layers=tuple(layers), source=source)

    def codes(self, feeds: Tensors, *, force: Codes | None = None) -> Codes:
        """int8 codes of every canonical activation, NCHW, from the reference kernels.

        With `force`, the ops run one by one and each tensor named there is replaced after its own was recorded.
        Raises UsageError on a float artifact and on a name or shape in `force` that the file does not have.
        """
        check_feeds(feeds, self._artifact)
        if self._artifact.precision is not Precision.INT8:
            raise UsageError(f"{self._artifact.path}: codes exist only in an INT8 artifact; this is fp32")
        by_index = {index: feeds[name] for name, index in self._file.inputs.items()}
        if force:
            self._stepper = self._stepper or Stepper(self._file, "reference")
            tensors = self._stepper.run(by_index, self._forced(force))
        else:
            tensors = self._all_tensors(by_index)
        return {
            name: np.ascontiguousarray(tensors[held.index].transpose(moves(held.order, plain(len(held.order)))))
            for name, held in self._file.canonical.items()
        }

    def _all_tensors(self, feeds: dict[int, NDArray[Any]]) -> dict[int, NDArray[Any]]:
        if self._open is None:
            self._open = start(self._file.data, "reference", keep_all_tensors=True)
        for index, array in feeds.items():
            self._open.set_tensor(index, array)
        self._open.invoke()
        return {held.index: self._open.get_tensor(held.index) for held in set(self._file.canonical.values())}

    def _forced(self, force: Codes) -> dict[int, NDArray[Any]]:
        """`force` by tensor index and in the file's layout."""
        forced = {}
        for name, codes in force.items():
            if name not in self._file.canonical:
                raise UsageError(f"forced codes for unknown tensor {name!r}; {nearest(name, self._file.canonical)}")
            held = self._file.canonical[name]
            expected = standing([int(size) for size in self._file.tensors[held.index].shape], held.order)
            if codes.shape != expected:
                raise UsageError(f"forced codes of {name!r}: expected {expected}, received {codes.shape}")
            forced[held.index] = np.ascontiguousarray(codes.transpose(held.order), np.int8)  # as it lies in the file
        return forced

    def _precision(self, operator: Any) -> str:
        """int8 where every tensor that is not a constant is int8, else fp32."""
        indices = [int(i) for i in (*operator.inputs, *operator.outputs)]
        kinds = {self._artifact_type(index) for index in indices if self._file.constant(index) is None}
        return "int8" if kinds == {"int8"} else "fp32"

    def _artifact_type(self, index: int) -> str:
        quantization = self._file.tensors[index].quantization
        return "int8" if quantization is not None and quantization.scale is not None else "fp32"


@contextmanager
def open_session(
    folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False, kernels: Kernels = "xnnpack"
) -> Iterator[LiteRTSession]:
    """Open an artifact on LiteRT.

    Raises UsageError for bf16 (LiteRT has none on CPU), ArtifactError where the file is missing, changed or refused
    by the runtime, MissingBackendError without ai-edge-litert.
    """
    if bf16:
        raise UsageError(f"target {artifact.target!r}: LiteRT has no bfloat16 on the CPU; leave bf16 out")
    yield LiteRTSession(read_model(folder, artifact), artifact, kernels, threads)


@contextmanager
def open_reference_kernels(
    folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False
) -> Iterator[LiteRTSession]:
    """`open_session` on the reference kernels: what verify compares XNNPACK with."""
    with open_session(folder, artifact, threads=threads, bf16=bf16, kernels="reference") as session:
        yield session
