"""`Segmenter.load(bundle)(frame)`: the same call for every runtime, without torch.

Preprocessing comes from the bundle only; nothing about the model is configured twice.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.bundle import Bundle, open_bundle
from edge_unet.core.errors import DataError
from edge_unet.core.protocols import Session
from edge_unet.core.registry import lookup
from edge_unet.core.spec import (
    ClassSpec,
    PreprocessSpec,
    feed_from_pixels,
    logits_from_output,
    mask_from_logits,
    mask_from_output,
)
from edge_unet.frames import resize_frame, restore_mask
from edge_unet.segment.cleanup import Cleanup
from edge_unet.segment.tiles import Progress, Rows, tiled_rows
from edge_unet.targets.registry import TARGETS


@dataclass(frozen=True, slots=True)
class Timing:
    """Nanoseconds spent on one frame. Resizing the frame and reading the mask belong to the two outer parts."""

    preprocess_ns: int
    infer_ns: int
    postprocess_ns: int

    @property
    def total_ns(self) -> int:
        """All three together."""
        return self.preprocess_ns + self.infer_ns + self.postprocess_ns


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The result for one frame. `probabilities` are per class at the network's output size, None unless asked for."""

    mask: NDArray[np.uint8]  # (H, W) class ids at the frame's size
    classes: ClassSpec
    probabilities: NDArray[np.float32] | None  # (classes, h, w)
    timing: Timing


class Segmenter:
    """An opened bundle that segments frames. A context manager; `close` frees the runtime."""

    def __init__(self, bundle: Bundle, session: Session, stack: ExitStack, cleanup: Cleanup | None) -> None:
        self.bundle = bundle
        self.session = session
        self.cleanup = cleanup
        self._stack = stack

    @classmethod
    def load(cls, bundle: str | Path, *, threads: int = 1, cleanup: Cleanup | None = None) -> Segmenter:
        """Open a bundle folder. Raises ArtifactError on a damaged one, MissingBackendError without its runtime."""
        opened = open_bundle(Path(bundle))
        artifact = opened.manifest.artifact
        stack = ExitStack()
        target = lookup(TARGETS, artifact.target, "target")
        session = stack.enter_context(target.open(opened.folder, artifact, threads=threads))
        return cls(opened, session, stack, cleanup)

    @property
    def preprocess(self) -> PreprocessSpec:
        """How frames become the network's input."""
        return self.bundle.manifest.preprocess

    @property
    def classes(self) -> ClassSpec:
        """Names and colours of the mask's class ids."""
        return self.bundle.manifest.classes

    def __call__(self, frame: NDArray[np.uint8], *, probabilities: bool = False) -> Segmentation:
        """Segment one frame, (H, W, C) u8 in the bundle's colour order, resized to the network's input.

        Raises DataError on another dtype or channel count.
        """
        self._check(frame)
        start = time.perf_counter_ns()
        pixels = resize_frame(frame, self.preprocess)[None]  # (1, h, w, C)
        feed = feed_from_pixels(pixels, self.session.artifact.inputs[0], self.preprocess)
        fed = time.perf_counter_ns()
        raw = self.session.infer({self.session.artifact.inputs[0].name: feed})
        inferred = time.perf_counter_ns()
        sink = self.session.artifact.outputs[0]
        ids = mask_from_output(raw[sink.name], sink)[0]  # (h, w)
        mask = restore_mask(ids, frame.shape[0], frame.shape[1], self.preprocess)  # (H, W)
        mask = self.cleanup(mask) if self.cleanup else mask
        shares = class_probabilities(logits_from_output(raw[sink.name], sink))[0] if probabilities else None
        timing = Timing(fed - start, inferred - fed, time.perf_counter_ns() - inferred)
        return Segmentation(mask, self.classes, shares, timing)

    def tiled(
        self,
        frame: NDArray[np.uint8],
        *,
        overlap: float = 0.25,
        margin: int | None = None,
        progress: Progress | None = None,
        out: NDArray[np.uint8] | None = None,
    ) -> Segmentation:
        """Segment a frame larger than the input at its own scale, tile by tile (U-Net paper, figure 2). A np.memmap
        will do as the frame and as `out`, (H, W) u8, which takes the mask.

        `overlap` is the share of a tile that its neighbour covers too; within `margin` pixels of its inner edges
        (None: a quarter of the overlap) a tile counts for nothing, between the margins logits are blended. With a
        margin of the receptive field's radius the mask is that of one pass over the whole frame. `progress` is told
        (tiles done, tiles in all). A clean-up needs the whole mask at once.
        """
        self._check(frame)
        height, width = frame.shape[:2]
        mask = np.empty((height, width), np.uint8) if out is None else out
        if mask.shape != (height, width) or mask.dtype != np.uint8:
            raise DataError(f"out of shape {mask.shape} and {mask.dtype}; expected ({height}, {width}) uint8")
        start = time.perf_counter_ns()
        bands = self.mask_rows(
            lambda top, bottom: np.asarray(frame[top:bottom]),
            (height, width),
            overlap=overlap,
            margin=margin,
            progress=progress,
        )
        for top, band in bands:
            mask[top : top + len(band)] = band
        inferred = time.perf_counter_ns()
        if self.cleanup:
            mask[...] = self.cleanup(mask)
        return Segmentation(mask, self.classes, None, Timing(0, inferred - start, time.perf_counter_ns() - inferred))

    def mask_rows(
        self,
        rows: Rows,
        shape: tuple[int, int],
        *,
        overlap: float = 0.25,
        margin: int | None = None,
        progress: Progress | None = None,
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """(first row, (rows, W) class ids), top to bottom, of an image of `shape` that is read by its rows; memory
        holds one row of tiles. The options are those of `tiled`; a clean-up is not done."""
        tile = (self.preprocess.height, self.preprocess.width)
        bands = tiled_rows(rows, shape, tile, self._logits, overlap=overlap, margin=margin, progress=progress)
        for top, logits in bands:
            yield top, mask_from_logits(logits[None])[0]

    def _logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(1, h, w, C) pixels at input size -> (classes, h, w) logits."""
        source, sink = self.session.artifact.inputs[0], self.session.artifact.outputs[0]
        raw = self.session.infer({source.name: feed_from_pixels(pixels, source, self.preprocess)})
        return np.asarray(logits_from_output(raw[sink.name], sink)[0])

    def _check(self, frame: NDArray[np.uint8]) -> None:
        expected = self.preprocess.channels
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != expected or 0 in frame.shape:
            raise DataError(
                f"frame of shape {frame.shape} and {frame.dtype}; expected (height, width, {expected}) uint8 "
                f"in {self.preprocess.color_order} order"
            )

    def close(self) -> None:
        """Free the runtime."""
        self._stack.close()

    def __enter__(self) -> Segmenter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def class_probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, C, H, W) logits -> (N, classes, H, W) probabilities: sigmoid for one channel (background first), softmax."""
    if logits.shape[1] == 1:
        foreground = 1 / (1 + np.exp(-logits))  # (N, 1, H, W)
        return np.asarray(np.concatenate((1 - foreground, foreground), axis=1), np.float32)  # (N, 2, H, W)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)
