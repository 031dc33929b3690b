"""What a result is about."""

from __future__ import annotations

from edge_unet.core.spec import Frozen, Precision


class Subject(Frozen):
    """Which artifact, opened by which runtime, a result is about."""

    target: str
    precision: Precision
    runtime: str
    """Name and version, for example 'openvino 2026.4.1'."""
    bundle: str
    artifact_sha256: str
    on_device: bool = True
    """False where an interpreter or another runtime stood in for the target's hardware (STAND_IN)."""

    @property
    def label(self) -> str:
        """'cpu int8': how a row is called."""
        return f"{self.target} {self.precision.value}"
