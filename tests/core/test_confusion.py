"""Dice and IoU against torchmetrics and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_unet.core.confusion import Confusion


def test_by_hand() -> None:
    counts = Confusion(2)
    counts.add(np.array([[1, 1], [0, 0]], np.uint8), np.array([[1, 0], [0, 0]], np.uint8))
    assert counts.dice() == pytest.approx(2 / 3)
    assert counts.iou() == pytest.approx(1 / 2)
    counts.add(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    assert counts.dice() == pytest.approx((2 / 3 + 1) / 2), "nothing there and nothing found is a perfect image"


def test_ignored_pixels_count_nowhere() -> None:
    counts = Confusion(3, ignore_value=255)
    counts.add(np.array([[2, 1]], np.uint8), np.array([[2, 255]], np.uint8))
    assert counts.matrix.sum() == 1
    assert counts.per_class_iou() == [None, None, 1.0]


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 5), st.integers(0, 2**32 - 1))
def test_pooled_iou_equals_torchmetrics(classes: int, seed: int) -> None:
    torch = pytest.importorskip("torch")
    functional = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(seed)
    predicted, truth = rng.integers(0, classes, (2, 12, 12)).astype(np.uint8)
    counts = Confusion(classes)
    counts.add(predicted, truth)
    expected = functional.multiclass_jaccard_index(
        torch.from_numpy(predicted.astype(int)), torch.from_numpy(truth.astype(int)), classes, average="none"
    )
    assert counts.per_class_iou() == pytest.approx(expected.tolist(), abs=1e-6)
