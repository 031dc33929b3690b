"""Distances against scipy's, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from edge_unet.frames.distance import distance_to


@pytest.mark.parametrize(("height", "width", "share"), [(48, 48, 0.02), (131, 77, 0.001), (1200, 1600, 0.000002)])
def test_distances_are_scipys(height: int, width: int, share: float) -> None:
    region = np.random.default_rng(height).random((height, width)) < share
    region[height // 3, width // 2] = True
    received = distance_to(region)
    assert received.dtype == np.float32
    assert np.array_equal(received, ndimage.distance_transform_edt(~region).astype(np.float32))
