"""Open a peer on the runtimes that a user would take: the sessions that time our bundles, without their metadata."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_unet.core.artifact import Artifact, Census, LayerPlacement
from edge_unet.core.errors import UsageError
from edge_unet.core.protocols import Session
from edge_unet.targets.islands import Islands
from edge_unet.targets.onnxruntime.runtime import open_onnx
from edge_unet.targets.openvino.census import executed_layers
from edge_unet.targets.openvino.read_back import read_model
from edge_unet.targets.openvino.runtime import OpenVinoSession, has_bf16

ORT, OPENVINO, OPENVINO_BF16 = "peer onnxruntime", "peer openvino", "peer openvino, rest bf16"
"""Targets of a report. The last is an INT8 model whose other layers run in bfloat16: the plugin's own default where the
CPU has it."""

CONVOLUTIONS = ("Conv", "ConvTranspose")


class PeerOnOpenVino(OpenVinoSession):
    """The session of our bundles, whose census needs no canonical graph."""

    def census(self) -> Census:
        """Layers of the graph that the plugin executes."""
        model = read_model(self._folder, self._artifact)
        written = {node.get_friendly_name(): node.get_type_name() for node in model.get_ordered_ops()}
        return Census(layers=executed_layers(self._compiled, written, Islands({})), source="runtime model")


@contextmanager
def open_peer(folder: Path, artifact: Artifact, *, threads: int = 1, bf16: bool = False) -> Iterator[Session]:
    """Open an artifact of prepare.py on the runtime that its target names. `bf16`: a float one in bfloat16.

    Raises UsageError where bfloat16 is asked of a CPU or a runtime without it, ArtifactError for a damaged file.
    """
    if artifact.target == ORT:
        with open_onnx(folder, artifact, threads=threads, bf16=bf16) as session:
            yield session
        return
    wants_bf16 = bf16 or artifact.target == OPENVINO_BF16
    if wants_bf16 and not has_bf16():
        raise UsageError("OpenVINO finds no bfloat16 arithmetic on this CPU; leave these rows out")
    yield PeerOnOpenVino(folder, artifact, threads, "bf16" if wants_bf16 else "f32")


def convolutions(census: Census) -> tuple[LayerPlacement, ...]:
    """The layers that are convolutions."""
    return tuple(layer for layer in census.layers if layer.op in CONVOLUTIONS)


def not_int8(census: Census) -> tuple[LayerPlacement, ...]:
    """The convolutions that do not run in INT8."""
    return tuple(layer for layer in convolutions(census) if layer.precision != "int8")
