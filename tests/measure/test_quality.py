"""Dice, IoU and boundary F1 against values worked out by hand and against other libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt
from torchmetrics.functional.classification import binary_f1_score, binary_jaccard_index, multiclass_jaccard_index

from edge_unet.core.errors import UsageError
from edge_unet.core.spec import ClassSpec
from edge_unet.measure.boundary import boundary_f1, outline
from edge_unet.measure.quality import evaluate

BINARY = ClassSpec(names=("background", "polyp"), palette=((0, 0, 0), (0, 255, 0)))
THREE = ClassSpec(
    names=("road", "lane", "sky"), palette=((0, 0, 0), (0, 255, 0), (0, 0, 255)), ignore_value=255
)  # fmt: skip


def blobs(count: int, seed: int) -> NDArray[np.uint8]:
    """(count, 48, 48) masks of one ellipse each."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :48]
    parameters = rng.uniform((14, 14, 6, 6), (34, 34, 12, 12), (count, 4))
    return np.stack([((y - a) ** 2 / c**2 + (x - b) ** 2 / d**2 < 1).astype(np.uint8) for a, b, c, d in parameters])


def test_binary_scores_equal_torchmetrics_image_by_image() -> None:
    truths, masks = blobs(6, 0), blobs(6, 1)
    result = evaluate(lambda frame: frame, masks, truths, BINARY)
    pairs = [(torch.from_numpy(m), torch.from_numpy(t)) for m, t in zip(masks, truths, strict=True)]
    assert result.dice == pytest.approx(np.mean([float(binary_f1_score(m, t)) for m, t in pairs]))
    assert result.iou == pytest.approx(np.mean([float(binary_jaccard_index(m, t)) for m, t in pairs]))
    assert result.images == 6
    pooled = binary_jaccard_index(torch.from_numpy(masks), torch.from_numpy(truths))
    assert result.per_class["polyp"] == pytest.approx(float(pooled))
    assert result.row() == {
        "dice": result.dice, "iou": result.iou, "per_class": dict(result.per_class), "images": 6,
    }  # fmt: skip


def test_several_classes_with_ignored_pixels_equal_torchmetrics() -> None:
    rng = np.random.default_rng(3)
    truths = rng.integers(0, 3, (4, 20, 20)).astype(np.uint8)
    truths[:, :3] = 255
    masks = np.where(rng.random(truths.shape) < 0.6, truths % 3, rng.integers(0, 3, truths.shape)).astype(np.uint8)
    result = evaluate(lambda frame: frame, masks, truths, THREE)
    expected = multiclass_jaccard_index(
        torch.from_numpy(masks).long(), torch.from_numpy(truths).long(), num_classes=3, ignore_index=255, average="none"
    ).numpy()
    assert [result.per_class[name] for name in THREE.names] == pytest.approx(expected.tolist(), abs=1e-6)
    assert result.iou == pytest.approx(expected.mean(), abs=1e-6)


def test_an_absent_class_is_not_a_number_but_none() -> None:
    zeros = np.zeros((1, 8, 8), np.uint8)
    assert evaluate(lambda frame: frame, zeros, zeros, THREE).per_class == {"road": 1.0, "lane": None, "sky": None}


def square(left: int, size: int = 10) -> NDArray[np.uint8]:
    mask = np.zeros((40, 40), np.uint8)
    mask[10 : 10 + size, left : left + size] = 1
    return mask


def test_the_outline_of_a_square_is_its_rim() -> None:
    rim = outline(square(10) == 1)
    assert int(rim.sum()) == 36
    assert not rim[11:19, 11:19].any()
    full = np.ones((8, 8), bool)
    assert not outline(full).any()  # the image border is no outline


def test_boundary_f1_by_hand() -> None:
    assert boundary_f1(square(10), square(10), BINARY, 0) == 1.0
    # Shifted by 3: within 2 pixels lie the rim's rows where both squares overlap or end at most 2 pixels off.
    # Rows of 10, two of them; of the predicted row columns 13..22, those up to 19 + 2 = 21 are near: 9. So 2 * 9.
    # Its left column (x=13, 8 inner pixels) is near the true rows only within 2 rows of them: rows 11, 12, 17, 18: 4;
    # its right column (x=22) has distance 3 to x=19: none. By symmetry recall is the same: (18 + 4) / 36.
    assert boundary_f1(square(13), square(10), BINARY, 2) == pytest.approx(22 / 36)
    assert boundary_f1(square(13), square(10), BINARY, 3) == 1.0
    assert boundary_f1(square(10), np.zeros((40, 40), np.uint8), BINARY) == 0.0
    assert boundary_f1(np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8), BINARY) == 1.0


def test_boundary_f1_equals_a_scipy_version() -> None:
    for predicted, truth in zip(blobs(5, 4), blobs(5, 5), strict=True):
        lines = [m.astype(bool) & ~binary_erosion(m.astype(bool), border_value=1) for m in (predicted, truth)]
        near = [distance_transform_edt(~line) <= 2 for line in lines]
        precision, recall = near[1][lines[0]].mean(), near[0][lines[1]].mean()
        expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        assert boundary_f1(predicted, truth, BINARY, 2) == pytest.approx(expected)


def test_boundary_in_ignored_pixels_counts_nowhere() -> None:
    truth, predicted = square(10), square(10)
    predicted[30:35, 30:35] = 1  # a false island …
    assert boundary_f1(predicted, truth, BINARY, 2) < 0.9
    truth[28:37, 28:37] = 255  # … where nobody knows
    assert boundary_f1(predicted, truth, BINARY.model_copy(update={"ignore_value": 255}), 2) == 1.0


def test_mismatched_sets_are_usage_errors() -> None:
    frames = np.zeros((2, 8, 8), np.uint8)
    with pytest.raises(UsageError, match="2 frames and 1 truths"):
        evaluate(lambda frame: frame, frames, frames[:1], BINARY)
    with pytest.raises(UsageError, match=r"image 0: mask \(4, 4\) but truth \(8, 8\)"):
        evaluate(lambda frame: frame[:4, :4], frames, frames, BINARY)
