"""The maps made of the truth, against scipy's distance transforms and PraNet's formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import ndimage

from edge_unet.core.recipe import LossSpec
from edge_unet.training.losses.maps import border_map, distance_map, structure_map, truth_maps

IGNORE = 255
SPEC = LossSpec()


def blobs(seed: int, classes: int = 2, size: int = 48, count: int = 9) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    mask = np.zeros((size, size), np.uint8)
    for _ in range(count):
        cy, cx, radius = rng.integers(0, size), rng.integers(0, size), rng.integers(1, 6)
        mask[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = rng.integers(1, classes)
    return mask


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sigma", [2.0, 5.0])
def test_border_weights_are_the_papers(seed: int, sigma: float) -> None:
    mask = blobs(seed, classes=3)
    spec = LossSpec(border_sigma=sigma, border_w0=7.0)
    objects = []
    for kind in (1, 2):
        labels, count = ndimage.label(mask == kind, structure=np.ones((3, 3)))
        objects += [labels == number for number in range(1, count + 1)]
    assert len(objects) > 2
    distances = np.sort([ndimage.distance_transform_edt(~inside) for inside in objects], axis=0)
    expected = 7.0 * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * sigma**2)) * (mask == 0)
    assert expected.max() > 0.5
    np.testing.assert_allclose(border_map(mask, IGNORE, 3, spec), expected, atol=7.0 * 5e-6, rtol=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_no_border_without_two_objects(count: int) -> None:
    assert not border_map(blobs(1, count=count), IGNORE, 1, SPEC).any()


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_kervadecs(seed: int) -> None:
    mask = blobs(seed, classes=4)
    inside = [mask == kind for kind in range(4)]
    expected = [
        ndimage.distance_transform_edt(~own) * ~own - (ndimage.distance_transform_edt(own) - 1) * own for own in inside
    ]
    received = distance_map(mask, IGNORE, 4, SPEC) * len(mask)
    for kind in range(4):
        np.testing.assert_allclose(received[kind], expected[kind], atol=1e-3)
    binary = distance_map((mask > 0).astype(np.uint8), IGNORE, 1, SPEC)
    np.testing.assert_allclose(binary[0] * len(mask), 1 - expected[0], atol=1e-3)


def test_maps_are_the_same_bits_wherever_the_memory_lies() -> None:
    """A resumed or repeated training is the same only if they are."""
    mask = blobs(1, classes=3)
    held, distances, borders = [], set(), set()
    for size in range(0, 2000, 17):
        held.append(np.zeros(size, np.uint8))  # shifts what is allocated next
        distances.add(distance_map(mask, IGNORE, 3, SPEC).tobytes())
        borders.add(border_map(mask, IGNORE, 3, SPEC).tobytes())
    assert len(distances) == len(borders) == 1


def test_distances_reach_over_unknown_pixels() -> None:
    """A row: foreground, unknown, unknown, background, background."""
    row = np.array([[1, IGNORE, IGNORE, 0, 0]], np.uint8)
    assert distance_map(row, IGNORE, 1, SPEC)[0, 0, [0, 3, 4]].tolist() == pytest.approx([-2, 3, 4], abs=1e-4)


@pytest.mark.parametrize("value", [0, 1, IGNORE])
def test_one_class_alone_has_no_outline(value: int) -> None:
    mask = np.full((16, 16), value, np.uint8)
    assert not distance_map(mask, IGNORE, 1, SPEC).any()
    assert not distance_map(mask, IGNORE, 3, SPEC).any()
    assert (structure_map(mask, IGNORE, 3, SPEC) == 1).all()


def test_structure_weights_are_pranets() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[40:65, 35:70] = 1  # farther from the frame's edge than half a window
    wide = torch.from_numpy(mask)[None, None].float()
    pooled = torch.nn.functional.avg_pool2d(wide, kernel_size=31, stride=1, padding=15)
    expected = 1 + 5 * torch.abs(pooled - wide)[0, 0].numpy()
    for channels in (1, 2):
        np.testing.assert_allclose(structure_map(mask, IGNORE, channels, SPEC), expected, atol=1e-5)


def test_unknown_pixels_are_not_in_the_window() -> None:
    mask = np.zeros((8, 8), np.uint8)  # the window holds it all
    mask[:2], mask[2:4] = 1, IGNORE
    weights = structure_map(mask, IGNORE, 1, SPEC)
    assert weights[0, 0] == pytest.approx(1 + 5 * 32 / 48)
    assert weights[7, 7] == pytest.approx(1 + 5 * 16 / 48)


def test_only_what_the_terms_read_is_made() -> None:
    target = torch.from_numpy(np.stack([blobs(seed) for seed in range(2)])).long()
    assert truth_maps(LossSpec(), target, IGNORE, 1) == {}
    spec = LossSpec.model_validate({"terms": {"boundary": 1, "structure": 1, "dice": 1}})
    made = truth_maps(spec, target, IGNORE, 3)
    assert {name: tuple(values.shape) for name, values in made.items()} == {
        "boundary": (2, 3, 48, 48), "structure": (2, 48, 48),
    }  # fmt: skip
    assert torch.equal(made["boundary"][1], truth_maps(spec, target[1:], IGNORE, 3)["boundary"][0])
