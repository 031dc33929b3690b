"""A session on a saved Core ML package, off a Mac.

Core ML itself runs on Apple systems only. What stands in for it here executes the package's own MIL ops (see
`interpreter`): it proves what was saved, not how the Neural Engine rounds.

Two models of the arithmetic of an INT8 package are at hand, and nobody off a device can say which is nearer to one:
- fused (the default): dequantize, convolution, activation and quantize are one int8 kernel with a wide accumulator, as
  int8 hardware computes and as the pattern is meant; the fp16 types between them never exist in memory. A float island
  is no such kernel: each of its tensors exists, in the type that the program declares.
- unfused: every tensor that the program declares fp16 is rounded to fp16, 11 bits, before it is quantized again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.artifact import Artifact, Census, Codes
from edge_unet.core.errors import UsageError, require
from edge_unet.core.protocols import Session
from edge_unet.core.spec import Precision, Tensors
from edge_unet.targets.coreml.census import take_census
from edge_unet.targets.coreml.interpreter import Translation, translate
from edge_unet.targets.coreml.package import Package, load_package
from edge_unet.targets.coreml.toolchain import EXTRA, versions
from edge_unet.targets.feeds import check_feeds

UNFUSED = "every fp16 tensor rounded"


class MilSession:
    """Executes a saved package with MIL semantics on ONNX Runtime, graph optimizations off. Feeds are raw pixels,
    (1, H, W, C) u8 in the colour order of the package; results are the package's own outputs."""

    def __init__(self, package: Package, artifact: Artifact, threads: int, *, fused: bool) -> None:
        self._package, self._artifact, self._threads, self._fused = package, artifact, threads, fused
        self._compiled: dict[frozenset[str], tuple[Translation, Any]] = {}

    @property
    def artifact(self) -> Artifact:
        """What is being executed."""
        return self._artifact

    @property
    def runtime(self) -> str:
        """The interpreter, and the coremltools that read the package."""
        model = "int8 kernels fused" if self._fused else UNFUSED
        return f"MIL interpreter (coremltools {versions('coremltools')['coremltools']}; {model}), not Core ML"

    def other_models(self) -> Mapping[str, Session]:
        """The same package under the other model of its arithmetic; see the module. Empty for float packages."""
        if not self._fused:
            return {}
        return {UNFUSED: MilSession(self._package, self._artifact, self._threads, fused=False)}

    def infer(self, feeds: Tensors) -> Tensors:
        """Logits, (1, C, H, W) float32, of one frame."""
        translation, session = self._open(frozenset())
        names = list(translation.outputs)
        return dict(zip(names, session.run(names, {translation.image: self._pixels(feeds)}), strict=True))

    def census(self) -> Census:
        """Layers by precision as the package declares them."""
        return take_census(self._package)

    def codes(self, feeds: Tensors, *, force: Codes | None = None) -> Codes:
        """Codes of every quantized activation under its canonical name, NCHW, in the package's own grid; see
        LayerSession. Raises UsageError on an FP16 package and on a name in `force` that the package has not."""
        if not self._package.names.activations:
            raise UsageError(f"{self._package.path}: a {self._artifact.precision.value} artifact has no codes")
        forced = dict(force or {})
        unknown = sorted(set(forced) - set(self._package.names.activations.values()))
        if unknown:
            raise UsageError(f"{self._package.path}: no quantized tensor {', '.join(unknown)} to force")
        translation, session = self._open(frozenset(forced))
        stand_ins = {translation.forced[name]: np.ascontiguousarray(value) for name, value in forced.items()}
        values = session.run(list(translation.codes.values()), {translation.image: self._pixels(feeds), **stand_ins})
        return dict(zip(translation.codes, values, strict=True))

    def _pixels(self, feeds: Tensors) -> NDArray[np.uint8]:
        check_feeds(feeds, self._artifact)
        return feeds[self._artifact.inputs[0].name]

    def _open(self, forced: frozenset[str]) -> tuple[Translation, Any]:
        """The compiled twin whose codes `forced` come from outside; kept, since one verify run asks often."""
        if forced not in self._compiled:
            ort = require("onnxruntime", EXTRA)
            translation = translate(self._package.main, self._package.names, forced, fused=self._fused)
            options = ort.SessionOptions()
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            options.intra_op_num_threads = self._threads
            session = ort.InferenceSession(
                translation.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            self._compiled[forced] = (translation, session)
        return self._compiled[forced]


@contextmanager
def open_session(
    folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False, fused: bool = True
) -> Iterator[MilSession]:
    """Open the package that lies in `folder`. `fused` is the model of an INT8 package's arithmetic; see the module.

    Raises ArtifactError where it is damaged, UsageError on `bf16` (Core ML computes in fp16),
    MissingBackendError without coremltools or onnxruntime.
    """
    if bf16:
        raise UsageError("Core ML computes in fp16, not bf16; leave bf16 out")
    int8 = artifact.precision is Precision.INT8
    yield MilSession(load_package(folder, artifact), artifact, threads, fused=fused and int8)
