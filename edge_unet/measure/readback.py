"""Are the scales and integers in a saved artifact those of the canonical graph?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_unet.canonical import CanonicalGraph, QuantizedWeight
from edge_unet.core.artifact import Grid, ReadBack
from edge_unet.core.spec import QuantScheme


@dataclass(frozen=True, slots=True)
class Integers:
    """The outcome: how many were compared, and one line for every tensor that differs."""

    scales_compared: int
    payloads_compared: int
    scale_offenders: tuple[str, ...]
    payload_offenders: tuple[str, ...]

    @property
    def offenders(self) -> tuple[str, ...]:
        """All of them."""
        return self.scale_offenders + self.payload_offenders


def compare_integers(graph: CanonicalGraph, read: ReadBack, scheme: QuantScheme) -> Integers:
    """Compare every activation grid, weight grid and weight payload by canonical name, exactly.

    s8 zero point 0 may stand as u8 zero point 128; nothing else may change. A tensor the artifact does not hold is
    an offender unless `read.absent` gives the reason, and so is one that the canonical graph does not know.
    """
    scales, payloads = list(_activations(graph, read, scheme)), []
    weights = {weight.name: weight for weight in graph.weights.values()}
    for name, weight in weights.items():
        if name not in read.weights:
            payloads.append(f"weight {name}: not in the artifact")
            continue
        values, grid = read.weights[name]
        if (why := _grid_difference(weight.grid, grid, scheme)) is not None:
            scales.append(f"weight {name}: {why}")
        if (why := _payload_difference(weight, values)) is not None:
            payloads.append(f"weight {name}: {why}")
    payloads += [f"weight {name}: not in the canonical graph" for name in read.weights if name not in weights]
    held = [name for name in graph.activations if name in read.activations]
    carried = [name for name in weights if name in read.weights]
    return Integers(len(held) + len(carried), len(carried), tuple(scales), tuple(payloads))


def _activations(graph: CanonicalGraph, read: ReadBack, scheme: QuantScheme) -> Iterator[str]:
    for name, grid in graph.activations.items():
        if name in read.activations:
            if (why := _grid_difference(grid, read.activations[name], scheme)) is not None:
                yield f"activation {name}: {why}"
        elif name not in read.absent:
            yield f"activation {name}: no scale in the artifact, and no reason given"
    for name in read.activations:
        if name not in graph.activations:
            yield f"activation {name}: not in the canonical graph"


def _grid_difference(expected: Grid, received: Grid, scheme: QuantScheme) -> str | None:
    """None where the grids are the same integers' grids."""
    left, right = expected.scale.reshape(-1), np.asarray(received.scale, np.float32).reshape(-1)
    if left.size != right.size:
        return f"{left.size} scales expected, received {right.size}"
    if not np.array_equal(left, right):
        worst = int(np.argmax(np.abs(left - right)))
        where = f" (channel {worst}, {int((left != right).sum())} of {left.size} differ)" if left.size > 1 else ""
        return f"scale expected {left[worst]:.9g}, received {right[worst]:.9g}{where}"
    shift = received.zero_point - expected.zero_point
    allowed = (0, 128) if scheme is QuantScheme.PORTABLE else (0, 128, -128)
    if shift not in allowed:
        return f"zero point expected {expected.zero_point} (or 128 more, as u8), received {received.zero_point}"
    return None


def _payload_difference(weight: QuantizedWeight, values: NDArray[np.int8]) -> str | None:
    if values.shape != weight.values.shape:
        return f"payload shape expected {weight.values.shape}, received {values.shape}"
    different = int((values != weight.values).sum())
    return f"{different} of {values.size} integers differ" if different else None
