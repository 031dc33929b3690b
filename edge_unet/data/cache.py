"""A whole dataset in memory at the network's size: decoding JPEG in every epoch would cost more than augmenting."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from edge_unet.core.errors import DataError
from edge_unet.core.spec import PreprocessSpec
from edge_unet.data.datasets import Dataset
from edge_unet.frames import resize_frame, resize_labels

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


def load_resized(
    dataset: Dataset, preprocess: PreprocessSpec, progress: Progress | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Frames (N, h, w, C) u8 in the dataset's colour order and masks (N, h, w) u8 of class ids, h and w those of
    `preprocess`. Letterbox bars are the ignore value where the classes have one, else class 0.

    Raises DataError on a file that changed since the dataset was opened, or a frame of other channels.
    """
    height, width, channels = preprocess.height, preprocess.width, preprocess.channels
    frames = np.empty((len(dataset), height, width, channels), np.uint8)
    masks = np.empty((len(dataset), height, width), np.uint8)
    fill = dataset.classes.ignore_value or 0

    def fetch(index: int) -> None:
        frame, mask = dataset.load(index)
        if frame.shape[2] != channels:
            raise DataError(f"{dataset.names[index]}: {frame.shape[2]} channels; the recipe expects {channels}")
        frames[index] = resize_frame(frame, preprocess)
        masks[index] = resize_labels(mask, preprocess, fill)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(fetch, range(len(dataset))), start=1):
            if progress is not None:
                progress(done, len(dataset))
    return frames, masks
