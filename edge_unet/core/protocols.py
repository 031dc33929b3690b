"""The seams: what a lowering, a session and a target look like to everything above them.

Protocols, because toolchains are optional: nothing here may import one, and a target in another package needs no
base class of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from edge_unet.core.artifact import Artifact, Census, Codes, ReadBack
from edge_unet.core.spec import Precision, QuantScheme, Tensors


class Lowering(Protocol):
    """Write the artifact for a canonical Q/DQ ONNX file into the folder `into`.

    INT8 keeps every scale and integer. FP32, FP16: the same graph with Q/DQ removed.
    Raises GraphError naming the node it cannot lower, MissingBackendError where the toolchain is absent.
    The same input gives the same bytes.
    """

    def __call__(self, canonical: Path, precision: Precision, *, into: Path) -> Artifact:
        """Write the artifact; see the class."""
        ...


class Session(Protocol):
    """A loaded model in this process."""

    @property
    def artifact(self) -> Artifact:
        """What was opened."""
        ...

    @property
    def runtime(self) -> str:
        """Runtime name and version, for example 'openvino 2026.4.1'."""
        ...

    def infer(self, feeds: Tensors) -> Tensors:
        """Run once, synchronously. Keys, dtypes and layouts are those of artifact.inputs and .outputs."""
        ...

    def census(self) -> Census:
        """Layers by precision as this runtime executes them."""
        ...


@runtime_checkable
class LayerSession(Protocol):
    """A session that can also show its insides, for `verify --layers`."""

    def codes(self, feeds: Tensors, *, force: Codes | None = None) -> Codes:
        """int8 codes of every quantized activation. With `force`, each tensor named there is replaced by the given
        codes after its own were recorded (teacher forcing: errors do not add up)."""
        ...


@runtime_checkable
class ModelledSession(Protocol):
    """A stand-in for hardware that is not here, which can compute under more than one model of its arithmetic."""

    def other_models(self) -> Mapping[str, Session]:
        """What each other model assumes -> a session that computes so."""
        ...


class Runtime(Protocol):
    """Open an artifact that lies in `folder`. `bf16` asks for bfloat16 arithmetic on float graphs where the CPU and
    the runtime have it; otherwise it is an error."""

    def __call__(
        self, folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False
    ) -> AbstractContextManager[Session]:
        """Load the artifact; see the class."""
        ...


class Reader(Protocol):
    """Read scales and payloads back out of a saved artifact."""

    def __call__(self, folder: Path, artifact: Artifact) -> ReadBack:
        """Read the artifact; see the class."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the targets table (docs: `edge-unet export --target`)."""

    name: str
    format: str
    precisions: tuple[Precision, ...]
    scheme: QuantScheme
    ops: frozenset[str]
    """ONNX op types the lowering knows."""
    extra: str
    """The extra of edge_unet that installs the toolchain."""
    executes_here: bool
    """False where only an interpreter or structural rules stand in for the runtime."""
    lower: Lowering
    open: Runtime
    read_back: Reader
    float_output: bool = field(default=False)
    """True where the artifact leaves the last logits unquantized; verify then counts the pixels within half a step
    of zero apart."""
    mask_gate: float | None = field(default=None)
    """What verify asks of the masks where the runtime is known to round otherwise than the reference, in every layer
    (docs/decisions/0015); None: verify's own gate. Teacher-forced codes are gated as everywhere."""
    metric_gate: float | None = field(default=None)
    """The same for Dice and IoU."""
