"""OpenCV's own threads: it takes every core, whatever OMP_NUM_THREADS or a runtime was told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2


@contextmanager
def opencv_threads(count: int) -> Iterator[None]:
    """`count` threads for resizing and drawing within the block, then as many as before.

    The number is the process's: threads started within the block see it too.
    """
    before = cv2.getNumThreads()
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
