from __future__ import annotations

import numpy as np
import pytest

from edge_unet.data.scene_texture import blur, grain, mix, noise, photograph, rgb, step


@pytest.mark.parametrize("shape", [(64, 64), (33, 96), (2, 64)])
@pytest.mark.parametrize(("cells", "octaves"), [(2.5, 1), (6.0, 3), (40.0, 2)])
def test_noise_is_centred_and_of_about_unit_strength(shape: tuple[int, int], cells: float, octaves: int) -> None:
    planes = np.stack([noise(np.random.default_rng(seed), shape, cells, octaves) for seed in range(60)])
    assert planes.shape == (60, *shape)
    assert planes.dtype == np.float32
    assert abs(float(planes.mean())) < 0.25
    assert 0.4 < float(planes.std()) < 1.4


def test_noise_is_smooth() -> None:
    plane = noise(np.random.default_rng(0), (64, 64), 3)
    assert np.abs(np.diff(plane, axis=0)).max() < 0.4


def test_grain_has_the_stated_deviation() -> None:
    plane = grain(np.random.default_rng(0), (3, 100, 100), 7.0)
    assert float(plane.std()) == pytest.approx(7.0, rel=0.05)
    assert abs(float(plane.mean())) < 0.3


def test_step_rises_and_falls() -> None:
    values = np.array([-1, 0, 0.5, 1, 2], np.float32)
    np.testing.assert_allclose(step(values, 0, 1), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(step(values, 1, 0), [1, 1, 0.5, 0, 0])


def test_mix_blends_by_weight() -> None:
    image = np.zeros((3, 1, 3), np.float32)
    mix(image, rgb(10, 20, 30), np.array([[0, 0.5, 1]], np.float32))
    np.testing.assert_allclose(image[:, 0].T, [[0, 0, 0], [5, 10, 15], [10, 20, 30]])


def test_blur_keeps_the_mean_and_small_sigmas_keep_all() -> None:
    image = np.random.default_rng(0).random((3, 32, 32), np.float32)
    assert blur(image, 0.1) is image
    assert float(blur(image, 2).std()) < float(image.std()) / 2
    assert float(blur(image, 2).mean()) == pytest.approx(float(image.mean()), rel=0.05)


def test_a_photograph_is_the_scene_within_its_faults() -> None:
    scene = np.empty((3, 40, 48), np.float32)
    scene[:] = rgb(200, 100, 50)
    frame = photograph(np.random.default_rng(1), scene, softness=1, noise_pixels=2)
    assert (frame.shape, frame.dtype) == ((40, 48, 3), np.uint8)
    red, green, blue = frame.reshape(-1, 3).mean(axis=0)
    assert red > 1.7 * green > 3 * blue
