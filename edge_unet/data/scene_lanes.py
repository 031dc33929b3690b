"""Procedural roads: a flat curved road in perspective, lane lines with gaps and wear, shadows, cars, weather.

Every pixel below the horizon is carried back to the ground plane (metres to the side, metres ahead) and painted there,
so lines narrow, dashes shorten and texture flattens with distance as they do for a camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.data.scene_texture import Plane, as_plane, blur, colour, grain, mix, noise, photograph, rgb, step


@dataclass(frozen=True, slots=True)
class _Ground:
    """Where each pixel of the rows below the horizon meets the road."""

    horizon: int
    side: Plane  # (h, W) metres right of the road's reference line
    ahead: Plane  # (h, W) metres
    metres: Plane  # (h, W) metres to the side per pixel


def lane_scene(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """RGB frame (H, W, 3) u8 and mask (H, W) u8, 1 = paint of a lane line that is not covered by a car."""
    ground = _ground(rng, height, width)
    lane = float(rng.uniform(2.8, 4.0))
    lanes = int(rng.integers(1, 4))
    left = -lane * rng.uniform(0.35, lanes - 0.35)
    image = np.empty((3, height, width), np.float32)
    mask = np.zeros((height, width), np.uint8)
    road = image[:, ground.horizon :]
    _asphalt(rng, road, ground, left, left + lane * lanes)
    mask[ground.horizon :] = _lines(rng, road, ground, [left + lane * i for i in range(lanes + 1)])
    _shadows(rng, road, ground)
    _sky(rng, image, ground.horizon)
    _cars(rng, image, mask, ground, lane, left, lanes)
    _weather(rng, image, ground.horizon)
    return photograph(rng, image, softness=1.2, noise_pixels=8), mask


def _ground(rng: np.random.Generator, height: int, width: int) -> _Ground:
    """A camera 1.0 to 1.8 m above the road, and the road's heading and bend."""
    horizon = round(height * rng.uniform(0.25, 0.5))
    focal = width * rng.uniform(0.7, 1.3)
    camera_m = rng.uniform(1.0, 1.8)
    y, x = np.mgrid[horizon:height, 0:width].astype(np.float32)
    x = x - np.float32(width * rng.uniform(0.4, 0.6))
    below = y - horizon + 0.5 + x * rng.normal(0, 0.015)  # roll tilts the horizon
    metres = np.float32(camera_m) / np.maximum(below, np.float32(0.3))
    ahead = np.float32(focal) * metres
    # A bend is a parabola on the ground; far away it would turn back on itself, so it is held beyond 120 m.
    reach = np.minimum(ahead, 120)
    bend = reach * reach * rng.normal(0, 0.0015) + reach * rng.normal(0, 0.03)
    return _Ground(horizon, x * metres - bend, ahead, metres)


def _asphalt(rng: np.random.Generator, road: Plane, ground: _Ground, left: float, right: float) -> None:
    """Road, shoulders and verge, with grain, wheel tracks, seams and patches."""
    grey = rng.uniform(45, 150)
    tint = as_plane(rng.uniform(0.93, 1.07, (3, 1, 1)))
    rough = grain(rng, road.shape[1:], 1) * np.minimum(4 / np.maximum(ground.ahead, 1), 1)
    stains = noise(rng, road.shape[1:], 9, 3) + np.sin(ground.side * rng.uniform(1.5, 3)) * 0.6
    value = grey * (1 + rough * rng.uniform(0.05, 0.18) + stains * rng.uniform(0.01, 0.05))
    road[:] = value * tint
    margin = rng.uniform(0.2, 1.8)
    beyond = np.maximum(left - margin - ground.side, ground.side - right - margin)
    verge = colour(rng, (50, 60, 25), (170, 160, 120)) * (1 + noise(rng, road.shape[1:], 30, 2) * 0.15)
    mix(road, as_plane(verge), step(beyond + noise(rng, road.shape[1:], 12) * 0.1, -0.05, 0.1))
    for _ in range(int(rng.integers(0, 4))):  # tar seams and cracks: thin, long, and not paint
        offset, drift = rng.uniform(left, right), rng.normal(0, 0.03)
        wave = np.sin(ground.ahead * rng.uniform(0.1, 0.6)) * rng.uniform(0, 0.2)
        seam = np.abs(ground.side - offset - ground.ahead * np.float32(drift) - wave) < rng.uniform(0.02, 0.06)
        road[:, seam] *= rng.uniform(0.55, 1.15)
    if rng.random() < 0.3:  # a resurfaced stretch
        near, far = np.sort(rng.uniform(3, 40, 2))
        road[:, (ground.ahead > near) & (ground.ahead < far)] *= rng.uniform(0.75, 1.25)
    if rng.random() < 0.25:  # a pale kerb beside the road
        kerb = np.abs(ground.side - right - margin - 0.15) < 0.12
        road[:, kerb] = rng.uniform(110, 190)


def _lines(rng: np.random.Generator, road: Plane, ground: _Ground, offsets: list[float]) -> NDArray[np.uint8]:
    """Paint the lane lines in place; returns where they are, (h, W) u8."""
    mask = np.zeros(road.shape[1:], np.uint8)
    yellow = rng.random() < 0.35
    wear = step(noise(rng, road.shape[1:], 40, 2), rng.uniform(-3.5, -0.8), 0.3) * rng.uniform(0.55, 1)
    for number, offset in enumerate(offsets):
        outer = number in (0, len(offsets) - 1)
        half = rng.uniform(0.05, 0.1)
        # A line thinner than a pixel would come and go from row to row: it keeps about one pixel, as labels do.
        reach = np.maximum(half, ground.metres * np.float32(0.55))
        away = np.abs(ground.side - np.float32(offset))
        if outer and rng.random() < 0.2:  # double line
            away = np.abs(away - np.float32(0.15))
        on = (away < reach) & (ground.ahead < 70)
        if not outer or rng.random() < 0.2:
            period = rng.uniform(4, 13)
            on &= (ground.ahead + rng.uniform(0, period)) % np.float32(period) < period * rng.uniform(0.3, 0.6)
        elif rng.random() < 0.15:
            continue  # no line on this side
        low, high = ((170, 130, 30), (245, 205, 90)) if yellow and number == 0 else ((165, 165, 160), (250, 250, 250))
        cover = np.where(on, wear, 0)
        mix(road, colour(rng, low, high), as_plane(cover))
        mask[on] = 1
    return mask


def _shadows(rng: np.random.Generator, road: Plane, ground: _Ground) -> None:
    """Darken in place: dappled trees, or a hard-edged building or bridge across the road."""
    if rng.random() < 0.4:
        dapple = step(noise(rng, road.shape[1:], rng.uniform(5, 14), 3), -0.4, 0.8)
        road *= 1 - dapple * rng.uniform(0.3, 0.65)
    if rng.random() < 0.35:
        begin = rng.uniform(4, 25)
        edge = ground.ahead + ground.side * rng.normal(0, 0.8)
        shade = step(edge, begin, begin * 1.04) * step(edge, begin * rng.uniform(1.2, 3) * 1.05, begin * 1.15)
        road *= 1 - shade * rng.uniform(0.3, 0.7)
    if rng.random() < 0.25:  # low sun on the road ahead
        glare = step(np.abs(ground.side - rng.normal(0, 2)), rng.uniform(1, 4), 0) * step(ground.ahead, 5, 40)
        mix(road, rgb(255, 250, 235), glare * rng.uniform(0.2, 0.6))


def _sky(rng: np.random.Generator, image: Plane, horizon: int) -> None:
    """Sky with clouds, and a skyline of trees or houses down to the road, in place."""
    height, width = image.shape[1:]
    top, bottom = colour(rng, (70, 110, 170), (190, 205, 225)), colour(rng, (150, 160, 170), (245, 240, 235))
    ramp = np.linspace(0, 1, horizon, dtype=np.float32)[:, None]
    image[:, :horizon] = top + (bottom - top) * ramp
    mix(image[:, :horizon], rgb(235, 235, 238), step(noise(rng, (horizon, width), 4, 3), 0, 1.6))
    for _ in range(2):
        profile = np.abs(noise(rng, (2, width), rng.uniform(4, 16), 3)[0]) * rng.uniform(0.03, 0.16) * height
        if rng.random() < 0.4:  # houses: flat roofs
            profile = np.repeat(profile[:: max(2, width // 14)], max(2, width // 14))[:width]
            profile = np.pad(profile, (0, width - len(profile)), mode="edge")
        rows = np.arange(horizon, dtype=np.float32)[:, None]
        wall = as_plane(rows > horizon - 1 - profile[None])
        dark = colour(rng, (25, 35, 20), (130, 130, 125)) * (1 + noise(rng, (horizon, width), 30, 2) * 0.2)
        mix(image[:, :horizon], as_plane(dark), wall)


def _cars(
    rng: np.random.Generator,
    image: Plane,
    mask: NDArray[np.uint8],
    ground: _Ground,
    lane: float,
    left: float,
    lanes: int,
) -> None:
    """Cars ahead, far ones first; each hides what is behind it, paint too."""
    width = mask.shape[1]
    for ahead in sorted(rng.uniform(7, 45, int(rng.integers(0, 4))).tolist(), reverse=True):
        # The image row at which the road is that far ahead, and the column at which its lane is.
        row = int(np.abs(ground.ahead[:, width // 2] - ahead).argmin())
        place = left + lane * (int(rng.integers(lanes)) + 0.5) + rng.normal(0, 0.2)
        column = int(np.abs(ground.side[row] - place).argmin())
        if abs(ground.side[row, column] - place) > 0.5:
            continue
        per_metre = 1 / float(ground.metres[row, width // 2])
        half, tall, foot = 0.9 * per_metre, rng.uniform(1.3, 2.6) * per_metre, ground.horizon + row
        x0, x1, y0 = round(column - half), round(column + half), round(foot - tall)
        _car(image, (x0, y0, x1, foot), per_metre, colour(rng, (15, 15, 20), (220, 220, 220)))
        mask[max(0, y0) : foot + 1, max(0, x0) : max(0, x1 + 1)] = 0


def _car(image: Plane, box: tuple[int, int, int, int], per_metre: float, body: Plane) -> None:
    """Draw a car from behind into (3, H, W): shadow, body, window, lamps, plane by plane."""
    x0, y0, x1, foot = box
    half, tall = (x1 - x0) // 2, foot - y0
    inset, lamp = round(0.18 * per_metre), max(1, round(0.09 * per_metre))
    for plane, paint, red in zip(image, body.ravel().tolist(), (200.0, 25.0, 20.0), strict=True):
        cv2.ellipse(plane, (x0 + half, foot), (round(half * 1.15), max(1, round(half * 0.15))), 0, 0, 360, 22.0, -1)
        cv2.rectangle(plane, (x0, y0), (x1, foot - round(0.15 * per_metre)), paint, -1)
        window = (x0 + inset, y0 + inset // 2), (x1 - inset, round(y0 + tall * 0.4))
        cv2.rectangle(plane, *window, 45 + 0.2 * paint, -1)
        for lamp_x in (x0 + 2 * lamp, x1 - 2 * lamp):
            cv2.circle(plane, (lamp_x, round(foot - tall * 0.45)), lamp, red, -1)


def _weather(rng: np.random.Generator, image: Plane, horizon: int) -> None:
    """Night with headlights, haze, or a colour cast, in place."""
    height, width = image.shape[1:]
    kind = rng.random()
    if kind < 0.15:
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        beam = step(np.abs(x / width - 0.5) - (y - horizon) / height * 0.5, 0.35, -0.1) * step(
            y, horizon - 2, height * 0.8
        )
        image *= rng.uniform(0.2, 0.35) + beam * rng.uniform(0.4, 0.8)
    elif kind < 0.35:
        y = np.arange(height, dtype=np.float32)[:, None]
        haze = np.exp(-np.abs(y - horizon) / (height * rng.uniform(0.08, 0.3))) * rng.uniform(0.3, 0.8)
        mix(image, rgb(205, 208, 212), np.broadcast_to(as_plane(haze), (height, width)))
    image *= as_plane(rng.uniform(0.9, 1.1, (3, 1, 1)))
    if rng.random() < 0.1:  # drops on the windscreen
        image[:] = np.where(noise(rng, (height, width), 14) > 1.6, blur(image, height / 50), image)
