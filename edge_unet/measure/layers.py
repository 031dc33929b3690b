"""Layer by layer: at which tensor do the integers of a target leave those of the reference?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.core.protocols import LayerSession, Session
from edge_unet.core.report import LayerRow, LayerTable
from edge_unet.core.spec import PreprocessSpec
from edge_unet.measure.masks import feeds_of

MIN_SQNR_DB = 20.0
"""Free-running: engines that round elsewhere stay above 30 dB on every tensor; a wrong scale falls below 10 dB."""
FORCED_MAX_LSB = 1
"""Teacher-forced: one layer's own rounding."""


@dataclass
class _Sums:
    """Running sums over frames of one tensor."""

    signal: float = 0.0
    error: float = 0.0
    other: float = 0.0
    cross: float = 0.0
    max_lsb: int = 0
    equal: int = 0
    count: int = 0

    def add(self, expected: NDArray[np.int8], received: NDArray[np.int8]) -> None:
        a, b = expected.astype(np.float64).reshape(-1), received.astype(np.float64).reshape(-1)
        self.signal += float(a @ a)
        self.other += float(b @ b)
        self.cross += float(a @ b)
        self.error += float(np.square(a - b).sum())
        self.max_lsb = max(self.max_lsb, int(np.abs(a - b).max(initial=0)))
        self.equal += int((a == b).sum())
        self.count += a.size

    def row(self, name: str) -> LayerRow:
        sqnr = math.inf
        if self.error:
            sqnr = 10 * math.log10(self.signal / self.error) if self.signal else -math.inf
        norm = math.sqrt(self.signal * self.other)
        cosine = self.cross / norm if norm else float(self.error == 0)
        return LayerRow(
            name=name, sqnr_db=sqnr, cosine=cosine, max_lsb=self.max_lsb, equal=self.equal / max(1, self.count)
        )


def compare_layers(
    reference: Session, target: Session, frames: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    preprocess: PreprocessSpec, *, forced: bool = False, min_sqnr_db: float = MIN_SQNR_DB,
) -> LayerTable:  # fmt: skip
    """The table over all `frames` ((h, w, C) u8), in graph order.

    `forced` feeds every layer of the target with the reference's codes. A row is bad where it exceeds 1 LSB and,
    free-running, also misses `min_sqnr_db` (a nearly silent tensor has a low SQNR at 1 LSB); the first is named.
    Raises UsageError where a session cannot show its insides or gives a tensor another shape.
    """
    for session in (reference, target):
        if not isinstance(session, LayerSession):
            raise UsageError(f"{session.runtime} cannot show its layers; verify this target without --layers")
    sums: dict[str, _Sums] = {}
    missing: dict[str, None] = {}
    shown: set[str] | None = None
    for frame in frames:
        expected = _codes(reference, frame, preprocess, None)
        if forced and shown is None:  # a target that dropped a Q/DQ pair refuses codes for it
            shown = set(_codes(target, frame, preprocess, None))
        force = {name: codes for name, codes in expected.items() if name in shown} if shown is not None else None
        received = _codes(target, frame, preprocess, force)
        for name, codes in expected.items():
            if name not in received:
                missing[name] = None
                continue
            if received[name].shape != codes.shape:
                raise UsageError(f"tensor {name}: shape expected {codes.shape}, received {received[name].shape}")
            sums.setdefault(name, _Sums()).add(codes, received[name])
    rows = tuple(total.row(name) for name, total in sums.items())
    bad = [r.name for r in rows if r.max_lsb > FORCED_MAX_LSB and (forced or r.sqnr_db < min_sqnr_db)]
    return LayerTable(rows=rows, forced=forced, missing=tuple(missing), first_bad=bad[0] if bad else None)


def _codes(
    session: Session, frame: NDArray[np.uint8], preprocess: PreprocessSpec, force: dict[str, NDArray[np.int8]] | None
) -> dict[str, NDArray[np.int8]]:
    assert isinstance(session, LayerSession)  # checked by the caller
    return dict(session.codes(feeds_of(session, frame, preprocess), force=force))
