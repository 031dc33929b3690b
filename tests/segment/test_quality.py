"""Each fault of a frame, made on purpose, is named; a good frame passes; the size of the frame does not matter."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_unet.frames import read_frame
from edge_unet.segment.quality import QualityCheck, QualityLimits, lit_field


def tissue(size: int = 256, seed: int = 0) -> NDArray[np.uint8]:
    """A reddish textured disc on black, as an endoscope gives."""
    rng = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(rng.normal(0, 90, (256, 256)).astype(np.float32), (0, 0), 1.0)
    frame = np.clip(np.array([170, 110, 90]) + grain[..., None], 20, 230).astype(np.uint8)
    y, x = np.mgrid[:256, :256]
    frame[(x - 128) ** 2 + (y - 128) ** 2 > 115**2] = 0
    return np.asarray(cv2.resize(frame, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def reasons(frame: NDArray[np.uint8]) -> str:
    return "; ".join(QualityCheck()(frame).reasons)


def test_a_good_frame_passes() -> None:
    quality = QualityCheck()(tissue())
    assert quality.good
    assert quality.reasons == ()
    assert quality.sharpness > 40
    assert 100 < quality.brightness < 140


def test_a_blurred_frame_is_refused_with_figure_and_limit() -> None:
    blurred = np.asarray(cv2.GaussianBlur(tissue(), (0, 0), 3), np.uint8)
    quality = QualityCheck()(blurred)
    assert not quality.good
    assert quality.reasons == (f"blurred (sharpness {quality.sharpness:.0f}, at least 12)",)


def test_dark_overexposed_and_glaring_frames_are_told_apart() -> None:
    assert reasons(tissue() // 8).startswith("too dark")
    assert "glare" not in reasons(tissue() // 8)
    burnt = tissue()
    burnt[60:200, 60:200, 0] = 255  # one channel only: clipped, but no highlight
    assert "over-exposed" in reasons(burnt)
    assert "glare" not in reasons(burnt)
    glare = tissue()
    glare[70:190, 70:190] = 240
    assert reasons(glare).startswith("glare (")


def test_highlights_do_not_make_a_blurred_frame_sharp() -> None:
    frame = np.asarray(cv2.GaussianBlur(tissue(), (0, 0), 3), np.uint8)
    plain = QualityCheck()(frame).sharpness
    for x in range(60, 200, 30):
        cv2.circle(frame, (x, 128), 4, (255, 255, 255), cv2.FILLED)
    assert QualityCheck()(frame).sharpness == pytest.approx(plain, rel=0.3)


def test_a_black_frame_is_dark_and_nothing_divides_by_zero() -> None:
    quality = QualityCheck()(np.zeros((40, 60, 3), np.uint8))
    assert quality.brightness == 0
    assert quality.reasons[0].startswith("too dark (mean 0, at least 30)")


def test_the_surround_is_not_measured() -> None:
    field = lit_field(np.asarray(tissue().mean(axis=2), np.uint8))
    assert field.mean() == pytest.approx(np.pi * 115**2 / 256**2, abs=0.02)
    assert not field[0, 0]


@pytest.mark.parametrize("factor", [2, 3])
def test_a_larger_frame_measures_the_same(factor: int) -> None:
    small = tissue()
    large = small.repeat(factor, axis=0).repeat(factor, axis=1)
    one, other = QualityCheck()(small), QualityCheck()(large)
    assert other.sharpness == pytest.approx(one.sharpness, rel=0.01)
    assert other.brightness == pytest.approx(one.brightness, abs=0.5)


def test_a_frozen_source_is_noticed_and_recovers() -> None:
    check = QualityCheck(QualityLimits(frozen_frames=3))
    frame = tissue()
    assert [check(frame).good for _ in range(4)] == [True, True, False, False]
    assert check(tissue(seed=1)).good
    assert check(tissue(seed=1)).frames_alike == 2


@pytest.mark.slow
def test_real_frames_pass_and_their_blurred_copies_do_not(shared_data: Path) -> None:
    paths = sorted((shared_data / "kvasir_seg" / "val" / "images").glob("*"))[:25]
    if not paths:
        pytest.skip("kvasir_seg is not in the data folder")
    frames = [read_frame(path) for path in paths]
    assert [QualityCheck()(frame).reasons for frame in frames] == [()] * len(frames)
    blurred = [np.asarray(cv2.GaussianBlur(frame, (0, 0), 2), np.uint8) for frame in frames]
    assert all("blurred" in QualityCheck()(frame).reasons[-1] for frame in blurred)
