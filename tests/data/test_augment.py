from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import AugmentSpec, DataSpec, Recipe
from edge_unet.core.spec import PreprocessSpec
from edge_unet.data.augment import augment
from edge_unet.data.cache import load_resized
from edge_unet.data.open import open_data

SPEC = PreprocessSpec(height=64, width=64)
NOTHING = AugmentSpec(
    flip_horizontal=0,
    flip_vertical=0,
    rotate_degrees=0,
    scale=(1.0, 1.0),
    shift=0,
    elastic=0,
    brightness=0,
    contrast=0,
    saturation=0,
    hue=0,
    blur=0,
    noise=0,
)
GEOMETRY = NOTHING.model_copy(
    update={
        "flip_horizontal": 0.5,
        "flip_vertical": 0.5,
        "rotate_degrees": 180.0,
        "scale": (0.7, 1.4),
        "shift": 0.15,
        "elastic": 1.0,
        "elastic_pixels": 4.0,
    }
)


def batch(count: int = 4, height: int = 64, width: int = 64, channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    frames = torch.randint(0, 256, (count, channels, height, width), generator=generator, dtype=torch.uint8)
    masks = torch.randint(0, 3, (count, height, width), generator=generator, dtype=torch.uint8)
    return frames, masks


def run(
    frames: Tensor,
    masks: Tensor,
    spec: AugmentSpec,
    *,
    size: tuple[int, int] = (64, 64),
    seed: int = 0,
    preprocess: PreprocessSpec = SPEC,
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return augment(frames, masks, spec, preprocess, size=size, ignore=255, generator=generator)


def blobs(count: int) -> Tensor:
    """Masks (N, 64, 64) of one filled ellipse each, none of them symmetric about the centre."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    rng = np.random.default_rng(2)
    masks = [
        ((y - rng.uniform(18, 46)) / rng.uniform(6, 16)) ** 2 + ((x - rng.uniform(18, 46)) / rng.uniform(6, 16)) ** 2
        < 1
        for _ in range(count)
    ]
    return torch.stack(masks).byte()


def test_nothing_gives_the_normalised_frame() -> None:
    frames, masks = batch()
    x, y = run(frames, masks, NOTHING)
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    # 0.02 pixel values: float32 coordinates do not hit pixel centres exactly
    torch.testing.assert_close(x, (frames.float() - 128) / 64, atol=0.02, rtol=0)
    torch.testing.assert_close(y, masks.long(), atol=0, rtol=0)


@pytest.mark.parametrize("flip", ["flip_horizontal", "flip_vertical"])
def test_a_certain_flip_mirrors_both(flip: str) -> None:
    frames, masks = batch(height=48)
    x, y = run(frames, masks, NOTHING.model_copy(update={flip: 1.0}), size=(48, 64))
    axis = -1 if flip == "flip_horizontal" else -2
    torch.testing.assert_close(x, ((frames.float() - 128) / 64).flip(axis), atol=0.02, rtol=0)
    torch.testing.assert_close(y, masks.long().flip(axis), atol=0, rtol=0)


@pytest.mark.parametrize("size", [(64, 64), (48, 48), (32, 32), (40, 56)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_labels_are_never_interpolated(size: tuple[int, int], seed: int) -> None:
    frames, _ = batch(8)
    masks = torch.tensor([0, 7, 11], dtype=torch.uint8)[batch(8)[1].long()]
    x, y = run(frames, masks, AugmentSpec(), size=size, seed=seed)
    assert set(y.unique().tolist()) <= {0, 7, 11, 255}
    assert x.shape == (8, 3, *size)
    assert y.shape == (8, *size)


@pytest.mark.parametrize("size", [(64, 64), (48, 48), (32, 32)])
@pytest.mark.parametrize("seed", range(4))
def test_frame_and_mask_stay_joint(size: tuple[int, int], seed: int) -> None:
    """A frame drawn from its own mask still shows that mask afterwards, but for a pixel along the edge."""
    masks = blobs(8)
    frames = (masks * 200 + 28)[:, None].expand(-1, 3, -1, -1).contiguous()
    x, y = run(frames, masks, GEOMETRY, size=size, seed=seed)
    shown = x[:, 0] > 0  # 228 is foreground, 28 background, and outside is exactly 0
    known = y != 255
    wrong = (shown != (y == 1)) & known
    assert wrong.float().mean() < 0.012
    # and where it is wrong, it is next to an edge
    near = torch.nn.functional.max_pool2d((y == 1).float()[:, None], 3, 1, 1)[:, 0]
    far = -torch.nn.functional.max_pool2d(-(y == 1).float()[:, None], 3, 1, 1)[:, 0]
    assert not (wrong & (near == far)).any()


def test_outside_is_mid_grey_and_ignored() -> None:
    frames, masks = batch(8)
    spec = AugmentSpec(scale=(0.5, 0.6), elastic=0.0, blur=1.0, noise=1.0)
    x, y = run(frames, masks, spec)
    outside = y == 255
    assert 0.3 < outside.float().mean() < 0.9
    # bilinear sampling reaches half a pixel over the edge; beyond that it is exactly zero
    deep = -torch.nn.functional.max_pool2d(-outside.float()[:, None], 3, 1, 1)[:, 0] > 0
    assert (x.permute(0, 2, 3, 1)[deep] == 0).all()
    assert (x.permute(0, 2, 3, 1)[~outside] != 0).float().mean() > 0.9


def test_pixels_stay_within_a_byte() -> None:
    frames = torch.randint(0, 2, (6, 3, 64, 64), dtype=torch.uint8) * 255
    wild = AugmentSpec(brightness=1, contrast=1, saturation=1, hue=0.5, blur=0.5, noise=1.0)
    x, _ = run(frames, torch.zeros(6, 64, 64, dtype=torch.uint8), wild)
    pixels = x * 64 + 128
    assert pixels.min() >= 0
    assert pixels.max() <= 255


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    frames, masks = batch()
    one, two, other = (run(frames, masks, AugmentSpec(noise=1.0), seed=seed) for seed in (3, 3, 4))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])


def test_the_generator_state_resumes() -> None:
    frames, masks = batch()
    generator = torch.Generator().manual_seed(9)
    kwargs = {"size": (64, 64), "ignore": 255}
    augment(frames, masks, AugmentSpec(), SPEC, generator=generator, **kwargs)
    state = generator.get_state()
    expected = augment(frames, masks, AugmentSpec(), SPEC, generator=generator, **kwargs)
    resumed = torch.Generator()
    resumed.set_state(state)
    received = augment(frames, masks, AugmentSpec(), SPEC, generator=resumed, **kwargs)
    assert torch.equal(expected[0], received[0])
    assert torch.equal(expected[1], received[1])


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    run(*batch(), AugmentSpec(noise=1.0))
    assert torch.equal(before, torch.get_rng_state())


def test_inputs_are_left_alone() -> None:
    frames, masks = batch()
    copies = frames.clone(), masks.clone()
    run(frames, masks, AugmentSpec())
    assert torch.equal(frames, copies[0])
    assert torch.equal(masks, copies[1])


@pytest.mark.parametrize(("size", "factor"), [(32, 2), (16, 4)])
def test_small_sizes_average_areas(size: int, factor: int) -> None:
    frames, masks = batch()
    x, _ = run(frames, masks, NOTHING, size=(size, size))
    averaged = torch.nn.functional.avg_pool2d(frames.float(), factor)
    torch.testing.assert_close(x * 64 + 128, averaged, atol=0.05, rtol=0)


@pytest.mark.parametrize("size", [(48, 64), (36, 48)])
def test_rotation_and_scale_keep_the_shape_of_things(size: tuple[int, int]) -> None:
    """Two ramps show where each pixel looked; that map must turn and scale evenly, on a frame that is not square."""
    y, x = torch.meshgrid(torch.arange(48), torch.arange(64), indexing="ij")
    ramps = torch.stack([x * 2 + 64, y * 2 + 64, y * 0])[None].repeat(16, 1, 1, 1).byte()
    spec = NOTHING.model_copy(update={"rotate_degrees": 180.0, "scale": (0.8, 1.3), "flip_horizontal": 0.5})
    looked, _ = run(ramps, torch.zeros(16, 48, 64, dtype=torch.uint8), spec, size=size)
    at = (looked[:, :2] * 64 + 64) / 2  # (N, xy, h, w) source pixels
    row, column, step = size[0] // 2, size[1] // 2, 6
    ratio = size[0] / 48
    along_x = (at[:, :, row, column + step] - at[:, :, row, column - step]) * ratio / (2 * step)
    along_y = (at[:, :, row + step, column] - at[:, :, row - step, column]) * ratio / (2 * step)
    torch.testing.assert_close((along_x * along_y).sum(1), torch.zeros(16), atol=0.02, rtol=0)
    torch.testing.assert_close(along_x.norm(dim=1), along_y.norm(dim=1), atol=0.02, rtol=0)
    zoom = 1 / along_x.norm(dim=1)
    assert zoom.min() > 0.79
    assert zoom.max() < 1.31
    assert zoom.std() > 0.05
    assert (along_x[:, 1].abs() > 0.3).any()  # some did turn


def test_saturation_and_hue_leave_grey_alone_and_luma_in_place() -> None:
    colours = NOTHING.model_copy(update={"saturation": 0.5, "hue": 0.5})
    grey = torch.full((4, 3, 64, 64), 90, dtype=torch.uint8)
    masks = torch.zeros(4, 64, 64, dtype=torch.uint8)
    x, _ = run(grey, masks, colours)
    torch.testing.assert_close(x * 64 + 128, grey.float(), atol=0.05, rtol=0)

    tinted = torch.tensor([120, 130, 110], dtype=torch.uint8)[None, :, None, None].expand(4, 3, 64, 64).contiguous()
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    for order in ("RGB", "BGR"):
        spec = PreprocessSpec.model_validate({"height": 64, "width": 64, "color_order": order})
        by_order = weights if order == "RGB" else weights.flip(0)
        x, _ = run(tinted, masks, colours, preprocess=spec)
        pixels = x * 64 + 128
        luma = (pixels * by_order).sum(1)
        torch.testing.assert_close(luma, (tinted * by_order).sum(1), atol=0.1, rtol=0)
        assert (pixels - tinted.float()).abs().max() > 1  # the colours themselves did move


@pytest.mark.parametrize(("name", "value"), [("brightness", 0.5), ("contrast", 0.5), ("noise", 1.0), ("blur", 1.0)])
def test_each_photometric_change_changes_pixels_not_labels(name: str, value: float) -> None:
    frames, masks = batch()
    x, y = run(frames, masks, NOTHING.model_copy(update={name: value}))
    plain, labels = run(frames, masks, NOTHING)
    assert (x - plain).abs().mean() > 0.01
    assert torch.equal(y, labels)


@pytest.mark.parametrize(("name", "value"), [("rotate_degrees", 90.0), ("shift", 0.2), ("elastic", 1.0)])
def test_each_geometric_change_moves_labels(name: str, value: float) -> None:
    masks = blobs(4)
    _, y = run(batch()[0], masks, NOTHING.model_copy(update={name: value}))
    assert (y != masks.long()).float().mean() > 0.02


def test_elastic_displacement_has_the_stated_deviation() -> None:
    """A ramp shows where each pixel looked."""
    ramp = torch.arange(64).expand(200, 3, 64, 64) * 2 + 64
    spec = NOTHING.model_copy(update={"elastic": 1.0, "elastic_pixels": 3.0})
    x, y = run(ramp.byte().contiguous(), torch.zeros(200, 64, 64, dtype=torch.uint8), spec)
    moved = (x[:, 0] * 64 + 128 - 64) / 2 - torch.arange(64)
    centre = moved[:, 32, 32][y[:, 32, 32] == 0]
    assert 2.4 < float(centre.std()) < 3.6


def shown_windows(masks: Tensor, spec: AugmentSpec, size: int) -> Tensor:
    """(N, 2, size, size): x and y of the frame's pixel that each output pixel shows."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    ramps = torch.stack([x * 2 + 64, y * 2 + 64, y * 0])[None].expand(len(masks), -1, -1, -1).byte().contiguous()
    looked, _ = run(ramps, masks, spec, size=(size, size))
    return (looked[:, :2] * 64 + 64) / 2


def test_a_window_shows_its_share_of_the_frame() -> None:
    """At half the size a window of half the frame is cut, not scaled: pixels are the frame's own."""
    at = shown_windows(torch.zeros(64, 64, 64, dtype=torch.uint8), NOTHING.model_copy(update={"patch": 0.5}), 32)
    step = at[:, 0, :, 1:] - at[:, 0, :, :-1]
    torch.testing.assert_close(step, torch.ones_like(step), atol=0.03, rtol=0)
    left, top = at[:, 0, 0, 0], at[:, 1, 0, 0]
    for edge in (left, top):  # anywhere in the frame, and never outside
        assert edge.min() >= -0.05
        assert edge.max() <= 32.05
        assert edge.min() < 5
        assert edge.max() > 27
        assert 6 < edge.std() < 12


def test_a_bias_centres_windows_on_the_foreground() -> None:
    masks = torch.zeros(400, 64, 64, dtype=torch.uint8)
    masks[:, 30:34, 40:44] = 2
    masks[:, 5:10, 5:10] = 255  # ignored, which is no foreground
    spec = NOTHING.model_copy(update={"patch": 0.5, "foreground_bias": 0.7})
    at = shown_windows(masks, spec, 32)
    centre = (at[:, :, 15, 15] + at[:, :, 16, 16]) / 2  # (N, xy)
    on_it = ((centre - torch.tensor([41.5, 31.5])).abs() < 2.1).all(1)
    by_chance = 0.3 * (4 / 32) ** 2
    assert float(on_it.float().mean()) == pytest.approx(0.7 + by_chance, abs=0.07)
    picked = centre[on_it].round().unique(dim=0)
    assert len(picked) >= 12  # every pixel of the object is picked


def test_a_window_stays_in_the_frame_and_an_empty_mask_has_no_bias() -> None:
    masks = torch.zeros(40, 64, 64, dtype=torch.uint8)
    masks[:20, 0, 63] = 1  # in the corner
    spec = NOTHING.model_copy(update={"patch": 0.25, "foreground_bias": 1.0})
    _, y = run(batch(40)[0], masks, spec, size=(16, 16))
    assert (y != 255).all()
    assert (y[:20, 0, 15] == 1).all()
    at = shown_windows(masks, spec, 16)
    assert at[20:, 0, 0, 0].std() > 8


def test_windows_follow_their_seed_and_leave_other_draws_alone() -> None:
    frames, masks = batch(8)
    spec = AugmentSpec(patch=0.5, foreground_bias=0.5)
    one, two, other = (run(frames, masks, spec, size=(32, 32), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[1], other[1])


def test_grey_frames() -> None:
    grey = PreprocessSpec(height=64, width=64, channels=1, color_order="GRAY")
    frames, masks = batch(channels=1)
    x, _ = run(frames, masks, AugmentSpec(), preprocess=grey)
    assert x.shape == (4, 1, 64, 64)
    plain, _ = run(frames, masks, NOTHING, preprocess=grey)
    torch.testing.assert_close(plain, (frames.float() - 128) / 64, atol=0.02, rtol=0)


def test_another_grid_of_the_input() -> None:
    spec = PreprocessSpec(height=64, width=64, mean=0.0, scale=1 / 255, pad_value=0)
    frames, masks = batch()
    x, _ = run(frames, masks, NOTHING, preprocess=spec)
    torch.testing.assert_close(x, frames.float() / 255, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("frames", "masks"),
    [
        (torch.zeros(2, 3, 8, 8), torch.zeros(2, 8, 8, dtype=torch.uint8)),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8)),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 9, dtype=torch.uint8)),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8, dtype=torch.uint8)),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.uint8)),
    ],
)
def test_wrong_tensors_are_refused(frames: Tensor, masks: Tensor) -> None:
    with pytest.raises(UsageError, match="augment: frames"):
        run(frames, masks, NOTHING)


def test_real_polyps_survive(shared_data: Path) -> None:
    recipe = Recipe(preprocess=SPEC, data=DataSpec(train=("cvc_clinicdb",)))
    frames, masks = load_resized(open_data(recipe, "val", shared_data), SPEC)
    x, y = run(torch.from_numpy(frames[:8]).permute(0, 3, 1, 2), torch.from_numpy(masks[:8]), recipe.augment)
    assert set(y.unique().tolist()) == {0, 1, 255}
    assert x.isfinite().all()
