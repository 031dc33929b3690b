"""How fast a machine could be: its measured peaks, the limit they set for a model, and where the time goes instead."""

from __future__ import annotations

from pydantic import Field

from edge_unet.core.spec import Frozen
from edge_unet.core.subject import Subject


class Peaks(Frozen):
    """What one machine reaches at best, measured on it. None: it has no such arithmetic."""

    threads: int
    int8_macs_per_s: float | None = None
    bf16_macs_per_s: float | None = None
    fp32_macs_per_s: float | None = None
    small_bytes_per_s: float
    """Read and write bandwidth of a working set that stays in the caches (1 MB)."""
    large_bytes_per_s: float
    """The same of one that does not (64 MB)."""
    method: str
    """How the peaks were found, in one sentence."""


class LimitRow(Subject):
    """The least time a model could take on this machine, and the time it takes.

    limit = sum over layers of max(MACs / peak, bytes / bandwidth), every tensor read and written once.
    """

    macs: int
    bytes_moved: int
    limit_ns: int = Field(ge=1)
    measured_ns: int
    """p50 of the model alone."""

    @property
    def ratio(self) -> float:
        """Measured over limit; 1 would be perfect."""
        return self.measured_ns / self.limit_ns


class LayerTime(Frozen):
    """One layer as a runtime's own profiler reports it."""

    name: str
    op: str
    unit: str
    """The runtime's word for the kernel."""
    time_ns: int
    """Median over the profiled runs."""


class LayerTimes(Subject):
    """Where the time of one artifact goes, in the order of execution. Profiling itself costs time: shares, not
    latencies."""

    source: str
    """Which profiler: 'OpenVINO performance counters', 'ONNX Runtime profile', …"""
    runs: int
    layers: tuple[LayerTime, ...]

    @property
    def total_ns(self) -> int:
        """Sum over the layers."""
        return sum(layer.time_ns for layer in self.layers)
