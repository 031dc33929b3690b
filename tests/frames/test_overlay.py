"""Masks drawn over frames: both ways give one picture."""

from __future__ import annotations

import numpy as np
import pytest

from edge_unet.core.spec import ClassSpec
from edge_unet.frames import overlay
from edge_unet.frames.overlay import draw_overlay

CLASSES = ClassSpec(names=("a", "b", "c"), palette=((0, 0, 0), (10, 200, 83), (255, 3, 77)))


@pytest.mark.parametrize("alpha", [0.0, 0.33, 0.5, 1.0])
def test_few_classes_are_drawn_as_many_are(alpha: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (48, 64, 3), np.uint8)
    mask = rng.integers(0, 5, (48, 64)).astype(np.uint8)  # 3 and 4 have no class
    few = draw_overlay(frame, mask, CLASSES, alpha=alpha)
    monkeypatch.setattr(overlay, "FEW", 0)
    many = draw_overlay(frame, mask, CLASSES, alpha=alpha)
    assert np.array_equal(few, many)
    assert np.array_equal(few[(mask == 0) | (mask > 2)], frame[(mask == 0) | (mask > 2)])
    wanted = frame[mask == 1] * (1 - alpha) + np.array(CLASSES.palette[1]) * alpha
    assert np.abs(few[mask == 1] - wanted).max() <= 0.5 + 1e-9


def test_the_frame_and_a_later_picture_are_not_touched() -> None:
    frame, mask = np.full((4, 4, 3), 100, np.uint8), np.ones((4, 4), np.uint8)
    first = draw_overlay(frame, mask, CLASSES)
    kept = first.copy()
    draw_overlay(frame, mask * 2, CLASSES)
    assert (frame == 100).all()
    assert np.array_equal(first, kept)
