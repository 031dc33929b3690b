"""Steadiness: no flicker, a bounded delay, a reset at a cut; regions that keep their number."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_unet.core.errors import UsageError
from edge_unet.segment.objects import Persistence
from edge_unet.segment.regions import Region, regions_of
from edge_unet.segment.steady import Hysteresis, SceneCut, Steady


def share(*values: float) -> NDArray[np.float32]:
    return np.asarray([values], np.float32)


def switches(masks: list[int]) -> int:
    return sum(a != b for a, b in itertools.pairwise(masks))


@settings(max_examples=80, deadline=None)
@given(st.floats(0, 1), st.floats(0, 0.0999), st.integers(0, 2**32 - 1), st.floats(0.05, 1))
def test_noise_around_a_constant_never_flickers(level: float, amplitude: float, seed: int, rate: float) -> None:
    """Within (on - off) / 2 = 0.1 of any constant a pixel switches at most once."""
    steady = Steady(Hysteresis(rate=rate))
    noise = np.random.default_rng(seed).uniform(-amplitude, amplitude, 60)
    seen = [int(steady(share(level + float(n)))[0, 0]) for n in noise]
    assert switches(seen) <= 1


def test_the_same_noise_flickers_without_hysteresis() -> None:
    noise = np.random.default_rng(1).uniform(-0.09, 0.09, 60)
    assert switches([int(0.5 + n >= 0.5) for n in noise]) > 10


@settings(max_examples=80, deadline=None)
@given(st.floats(0.05, 1), st.floats(0.05, 0.9), st.floats(0.06, 0.94))
def test_the_delay_is_what_it_says(rate: float, off: float, on: float) -> None:
    assume(on > off + 0.01)
    rule = Hysteresis(rate=rate, on=on, off=off)
    for before, after in ((0.0, 1.0), (1.0, 0.0)):
        steady = Steady(rule)
        steady(share(before))
        seen = [int(steady(share(after))[0, 0]) for _ in range(rule.delay_frames + 1)]
        assert seen[rule.delay_frames :] == [int(after)], "shown one frame later at the latest (rounding)"
    delays = []
    for before, after in ((0.0, 1.0), (1.0, 0.0)):
        steady = Steady(rule)
        steady(share(before))
        delays.append(next(n for n in range(1, 500) if int(steady(share(after))[0, 0]) == after))
    assert abs(max(delays) - rule.delay_frames) <= 1


def test_the_default_delay_is_two_frames() -> None:
    steady = Steady()
    assert steady.hysteresis.delay_frames == 2
    values = [0, 1, 1, 1, 0, 0]
    assert [int(steady(share(v))[0, 0]) for v in values] == [0, 0, 1, 1, 1, 0]


def test_the_first_frame_counts_in_full_and_a_reset_forgets() -> None:
    steady = Steady()
    assert steady(share(1.0, 0.0)).tolist() == [[1, 0]]
    assert steady(share(0.0, 1.0)).tolist() == [[1, 0]], "smoothed"
    steady.reset()
    assert steady(share(0.0, 1.0)).tolist() == [[0, 1]]
    assert steady(np.zeros((3, 3), np.float32)).shape == (3, 3), "a new size begins anew"


def test_the_given_array_is_not_changed() -> None:
    steady, first = Steady(), share(1.0)
    steady(first)
    steady(share(0.0))
    assert first.tolist() == [[1.0]]


@pytest.mark.parametrize(("rate", "on", "off"), [(0, 0.6, 0.4), (0.4, 0.4, 0.6), (0.4, 0.5, 0.5), (1.2, 0.6, 0.4)])
def test_wrong_thresholds_are_refused(rate: float, on: float, off: float) -> None:
    with pytest.raises(UsageError, match="0 < off < on"):
        Hysteresis(rate=rate, on=on, off=off)


def scene(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(30, 220, (6, 6, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_a_cut_is_noticed_and_motion_brightness_and_noise_are_none() -> None:
    cut = SceneCut()
    first = scene(0)
    noisy = np.clip(first + np.random.default_rng(3).normal(0, 12, first.shape), 0, 255).astype(np.uint8)
    darker = (first * 0.7).astype(np.uint8)
    moved = np.roll(first, 6, axis=1)
    assert [cut(f) for f in (first, first, noisy, darker, moved, scene(1), scene(1))] == [False] * 5 + [True, False]


def test_a_common_black_surround_does_not_hide_a_cut() -> None:
    cut = SceneCut()
    y, x = np.mgrid[:120, :160]
    outside = (x - 80) ** 2 + (y - 60) ** 2 > 45**2
    frames = [scene(0), scene(3)]  # their correlation: 0.89 with the surround, 0.03 without
    for frame in frames:
        frame[outside] = 0
    assert [cut(frame) for frame in frames] == [False, True]


def test_black_frames_are_one_scene_and_light_after_them_is_another() -> None:
    cut = SceneCut()
    black = np.zeros((60, 80, 3), np.uint8)
    assert [cut(black), cut(black), cut(scene(0))] == [False, False, True]


def box(left: int, top: int = 10, size: int = 12) -> list[Region]:
    mask = np.zeros((60, 120), np.uint8)
    mask[top : top + size, left : left + size] = 1
    return regions_of(mask)


def test_a_region_is_shown_once_it_lasts_and_kept_over_a_gap() -> None:
    persistence = Persistence(appear_frames=3, vanish_frames=2)
    changes = [persistence(regions) for regions in (box(10), box(12), box(14), [], [], box(16), [], [], [])]
    assert [[t.number for t in c.shown] for c in changes] == [[], [], [1], [1], [1], [1], [1], [1], []]
    assert [[t.number for t in c.appeared] for c in changes] == [[], [], [1], [], [], [], [], [], []]
    assert [[t.number for t in c.gone] for c in changes] == [[]] * 8 + [[1]]
    assert changes[3].shown[0].missing == 1
    assert changes[5].shown[0].region.box[0] == 16


def test_a_flash_is_never_shown() -> None:
    persistence = Persistence(appear_frames=3, vanish_frames=5)
    changes = [persistence(r) for r in (box(10), box(10), [], box(10), box(10), [])]
    assert not any(c.shown or c.appeared or c.gone for c in changes)


def test_two_regions_keep_their_numbers_while_they_move() -> None:
    persistence = Persistence(appear_frames=1)
    for step in range(6):
        change = persistence(box(5 + 3 * step) + box(90 - 3 * step, 40))
        places = {t.number: t.region.box[0] for t in change.shown}
        assert places == {1: 5 + 3 * step, 2: 90 - 3 * step}


def test_a_region_that_another_one_swallows_is_gone_at_once() -> None:
    persistence = Persistence(appear_frames=1, vanish_frames=5)
    persistence(box(10, 10, 10) + box(24, 10, 10))
    change = persistence(box(8, 8, 30))
    assert len(change.shown) == 1
    assert len(change.gone) == 1


def test_a_reset_returns_what_was_shown_and_numbers_go_on() -> None:
    persistence = Persistence(appear_frames=1)
    persistence(box(10))
    assert [t.number for t in persistence.reset()] == [1]
    assert [t.number for t in persistence(box(10)).shown] == [2]


def test_wrong_persistence_is_refused() -> None:
    with pytest.raises(UsageError, match="appear_frames >= 1"):
        Persistence(appear_frames=0)
