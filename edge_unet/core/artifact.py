"""A lowered model: what it is, where it came from, and which of its layers are INT8."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.spec import Frozen, Precision, TensorSpec


class LayerPlacement(Frozen):
    """Where and how one layer runs, as the artifact or the runtime itself reports it."""

    name: str
    op: str
    precision: str
    """int8, fp32, fp16, bf16: the arithmetic, not the storage."""
    unit: str
    """The runtime's own word for the kernel or delegate: brgconv_avx512_i8, XNNPACK, MIL int8 conv, …"""


class Census(Frozen):
    """Layers by precision. A layer is an op that does arithmetic (conv, add, resize, pool, concat, …)."""

    layers: tuple[LayerPlacement, ...]
    source: str
    """Who said so: 'runtime model', 'delegate partition', 'interpreter of the saved package', …"""

    @property
    def int8_layers(self) -> int:
        """Number of layers computed in INT8."""
        return sum(layer.precision == "int8" for layer in self.layers)

    @property
    def float_layers(self) -> int:
        """Number of layers computed in a float type."""
        return len(self.layers) - self.int8_layers

    def by_precision(self) -> dict[str, int]:
        """Layer count per precision."""
        counts: dict[str, int] = {}
        for layer in self.layers:
            counts[layer.precision] = counts.get(layer.precision, 0) + 1
        return dict(sorted(counts.items()))


class Artifact(Frozen):
    """One lowered model. `path` is relative to the folder (bundle) that holds it."""

    path: str
    sha256: str
    bytes: int
    target: str
    precision: Precision
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    toolchain: Mapping[str, str]
    """Package -> version of everything that shaped the bytes."""
    parent_sha256: str
    """sha256 of the canonical ONNX it was lowered from."""
    notes: tuple[str, ...] = ()
    """What the lowering did that a reader must know (a float island and its rule, a dropped Q/DQ pair)."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The integers of one tensor, in the canonical grid: real = (q - zero_point) * scale."""

    scale: NDArray[np.float32]  # () per tensor or (channels,)
    zero_point: int


@dataclass(frozen=True, slots=True)
class ReadBack:
    """Scales and integer payloads as they stand in a saved artifact, under the canonical graph's names.

    A lowering may re-express s8 zp0 as u8 zp128; `activations` keeps what the artifact holds. `weights` are
    returned in canonical layout (OIHW for Conv, IOHW for ConvTranspose) as int8.
    `absent` lists canonical activation names that the artifact holds no scale for, each with the written reason.
    """

    activations: Mapping[str, Grid]
    weights: Mapping[str, tuple[NDArray[np.int8], Grid]]
    absent: Mapping[str, str]


Scope = Literal["model", "end_to_end"]
Codes = Mapping[str, NDArray[Any]]
"""Canonical QuantizeLinear output name -> int8 codes of that tensor, NCHW, canonical grid (zero point 0)."""
