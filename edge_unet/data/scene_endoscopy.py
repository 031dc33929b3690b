"""Procedural colonoscopy: wet mucosa with folds and vessels around a dark lumen, and polyps as bumps of its surface.

One height field carries folds, polyps and ripples; light from the camera then shades all of them alike, so a polyp
differs from a fold by shape, colour and texture, not by how it was drawn.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_unet.data.scene_texture import Plane, as_plane, blur, colour, mix, noise, photograph, rgb, step


def endoscopy_scene(rng: np.random.Generator, height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """RGB frame (H, W, 3) u8 and mask (H, W) u8, 1 = polyp. About one frame in eight has no polyp."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    unit = np.float32(1 / min(height, width))
    y, x = (y - height / 2) * unit, (x - width / 2) * unit  # -0.5..0.5 along the shorter side
    surface, depth = _gut(rng, y, x)
    image = _mucosa(rng, height, width)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.choice([0, 1, 2, 3], p=[0.12, 0.63, 0.18, 0.07]))):
        _polyp(rng, y, x, surface, image, mask)
    _distractors(rng, image, y, x)
    lit = _light(rng, image, surface, depth, y, x)
    seen = _frame_edge(rng, lit, y, x)
    mask[seen < 0.5] = 0
    frame = photograph(rng, lit, softness=1.4, noise_pixels=6)
    _overlay(rng, frame)
    return frame, mask


def _gut(rng: np.random.Generator, y: Plane, x: Plane) -> tuple[Plane, Plane]:
    """Height of the wall (toward the camera) and depth 0..1 (1 = far down the lumen)."""
    shape = y.shape
    away = rng.uniform(0, 0.3) if rng.random() < 0.5 else rng.uniform(0.4, 0.9)
    angle = rng.uniform(0, 2 * math.pi)
    dy, dx = y - away * math.sin(angle), x - away * math.cos(angle)
    stretch = rng.uniform(0.7, 1.3)
    radius = np.sqrt(dy * dy * stretch + dx * dx / stretch) + noise(rng, shape, 3, 2) * 0.08 + 0.02
    depth = step(radius, rng.uniform(0.3, 0.7), -0.1)
    # Haustral folds are rings around the lumen: steep on the side that faces away from the camera.
    phase = np.log(np.maximum(radius, 0.02)) * rng.uniform(4, 9) + rng.uniform(0, 6)
    phase += noise(rng, shape, 2.5, 2) * rng.uniform(0.3, 1.2)
    ridge = np.sin(phase + 0.5 * np.sin(phase))
    strength = step(noise(rng, shape, 2), -0.8, 1.2) * rng.uniform(0.0, 0.045)
    ripples = noise(rng, shape, 10, 3) * rng.uniform(0.001, 0.006)
    return as_plane(ridge * strength * np.minimum(radius * 3, 1) + ripples), depth


def _mucosa(rng: np.random.Generator, height: int, width: int) -> Plane:
    """(3, H, W) colour of the wall before light: pink to orange, blotches, branching vessels."""
    shape = height, width
    base = colour(rng, (190, 85, 60), (250, 175, 150))
    image = np.empty((3, height, width), np.float32)
    image[:] = base
    mix(image, base * rgb(0.92, 0.68, 0.66), step(noise(rng, shape, 5, 3), -0.3, 2.2))
    mix(image, rgb(240, 195, 150), step(noise(rng, shape, 4, 2), 0.6, 2.4) * 0.5)
    for cells, thickness in ((5.0, 0.06), (9.0, 0.09)):
        # Zero crossings of smooth noise are thin, winding and closed: seen in patches they look like vessels.
        vessels = step(np.abs(noise(rng, shape, cells, 2)), thickness, 0.0)
        vessels *= step(noise(rng, shape, 3), -0.2, 1.0) * rng.uniform(0.15, 0.75)
        mix(image, base * rgb(0.72, 0.34, 0.4), vessels)
    return image


def _polyp(rng: np.random.Generator, y: Plane, x: Plane, surface: Plane, image: Plane, mask: NDArray[np.uint8]) -> None:
    """Add one polyp to surface, colours and mask, in place."""
    cy, cx = (float(rng.uniform(-0.85, 0.85) * np.abs(axis).max()) for axis in (y, x))
    size = math.exp(rng.uniform(math.log(0.06), math.log(0.36)))
    turns = np.linspace(-math.pi, math.pi, 257)
    outline = np.ones(257)
    for lobes in range(2, 7):
        outline += np.cos(lobes * turns + rng.uniform(0, 6.3)) * rng.normal(0, 0.16 / lobes)
    outline = np.maximum(outline, 0.4)
    # Nothing further out than this is touched, and a window is cheaper than the frame.
    reach = 1.3 * size * float(outline.max())
    rows = slice(*np.searchsorted(y[:, 0], (cy - reach, cy + reach)).tolist())
    columns = slice(*np.searchsorted(x[0], (cx - reach, cx + reach)).tolist())
    dy, dx = y[rows, columns] - cy, x[rows, columns] - cx
    turn, squeeze = rng.uniform(0, math.pi), rng.uniform(0.65, 1.0)
    u = (dx * math.cos(turn) + dy * math.sin(turn)) / size
    v = (dy * math.cos(turn) - dx * math.sin(turn)) / (size * squeeze)
    edge = as_plane(np.interp(np.arctan2(v, u), turns, outline))
    radius = np.sqrt(u * u + v * v) / edge + noise(rng, u.shape, 6, 2) * 0.03
    mask[rows, columns][radius < 1] = 1
    _raise_polyp(rng, radius, size, dy + dx * rng.uniform(-1, 1), surface[rows, columns], image[:, rows, columns])


def _raise_polyp(
    rng: np.random.Generator, radius: Plane, size: float, across: Plane, surface: Plane, image: Plane
) -> None:
    """Shape and colour a polyp in its window, in place; `radius` is 1 on its outline."""
    shape = radius.shape
    soft = step(radius, 1 + rng.uniform(0.02, 0.12), 1 - rng.uniform(0.05, 0.2))
    # Flat lesions barely rise; others are round domes with a dark groove on one side.
    rise = rng.uniform(0.1, 0.3) if rng.random() < 0.4 else rng.uniform(0.35, 0.9)
    body = np.maximum(1.05 - radius * radius, 0)
    dome = body / (0.35 + body) * (rise * size)  # steep at the outline, but never vertical as a sphere is
    lumps = noise(rng, shape, rng.uniform(4, 12), 2) * soft * rng.uniform(0.0, 0.03) * size
    surface *= 1 - soft * 0.6
    surface += dome + lumps
    shifts = ((1.0, 0.8, 0.78), (1.03, 1.06, 1.06), (0.98, 1.0, 0.82), (0.9, 0.72, 0.75))
    tint = 1 + (rgb(*shifts[int(rng.integers(4))]) - 1) * rng.uniform(0.35, 1.4)
    texture = 1 + noise(rng, shape, rng.uniform(8, 24), 2) * rng.uniform(0.0, 0.07)
    smooth = blur(image, rng.uniform(0.5, 4) * shape[0] / 100)  # vessels do not run on over a polyp
    mix(image, as_plane(smooth * tint * texture), soft)
    groove = step(np.abs(radius - 1.04), 0.2, 0.0) * step(across, -size, size) * rng.uniform(0.0, 0.6)
    image *= 1 - groove


def _distractors(rng: np.random.Generator, image: Plane, y: Plane, x: Plane) -> None:
    """Things that are not polyps: stool, foam, mucus."""
    height, width = y.shape
    if rng.random() < 0.3:
        stool = step(noise(rng, (height, width), 4, 3), 1.4, 1.9)
        mix(image, colour(rng, (90, 60, 20), (190, 150, 60)), stool * np.float32(rng.uniform(0.4, 0.9)))
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(2, 12))):
            centre = int(rng.integers(width)), int(rng.integers(height))
            radius = max(1, round(rng.uniform(0.008, 0.03) * height))
            glint = centre[0] - radius // 3, centre[1] - radius // 3
            for plane, pale in zip(image, rng.uniform(170, 255, 3).tolist(), strict=True):
                cv2.circle(plane, centre, radius, pale, 1, cv2.LINE_AA)
                cv2.circle(plane, glint, max(1, radius // 4), 255.0, -1)


def _light(rng: np.random.Generator, image: Plane, surface: Plane, depth: Plane, y: Plane, x: Plane) -> Plane:
    """Shade (3, H, W) colours by a lamp beside the lens: falloff with depth, diffuse shading, wet highlights."""
    height = y.shape[0]
    scale = min(y.shape)
    smooth = blur(surface, 0.8 * height / 256)
    slope_x = as_plane(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=scale / 8))
    slope_y = as_plane(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=scale / 8))
    lamp_x, lamp_y = rng.uniform(-0.5, 0.5), rng.uniform(-0.5, 0.5)
    to_lamp_x, to_lamp_y = x - lamp_x, y - lamp_y
    diffuse = (1 + slope_x * to_lamp_x + slope_y * to_lamp_y) / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    spot = 1.1 - (to_lamp_x * to_lamp_x + to_lamp_y * to_lamp_y) * 0.6
    shade = (0.3 + 0.7 * np.clip(diffuse, 0.1, 1.3)) * spot * (1 - depth * rng.uniform(0.7, 0.97))
    lit = as_plane(image * (shade * rng.uniform(0.8, 1.2)))
    # A highlight is where the mirrored lamp meets the lens: a normal close to one direction that drifts over the frame.
    wet = noise(rng, y.shape, 24, 2) * rng.uniform(0.04, 0.10)
    off_x, off_y = slope_x + to_lamp_x * 0.9 + wet, slope_y + to_lamp_y * 0.9 - wet
    tightness = rng.uniform(0.05, 0.12)
    shine = step(off_x * off_x + off_y * off_y, tightness**2, tightness**2 / 3) * (1 - depth)
    mix(lit, rgb(255, 250, 245), shine * rng.uniform(0.6, 1.0))
    lit += blur(shine, 3 * height / 256) * 35
    return lit


def _frame_edge(rng: np.random.Generator, image: Plane, y: Plane, x: Plane) -> Plane:
    """Darken the corners in place: vignette, and often the black octagon or circle of a scope. Returns what is seen."""
    radius = np.sqrt(y * y + x * x)
    image *= 1 - radius * radius * rng.uniform(0.1, 1.0)
    kind = rng.random()
    if kind < 0.35:
        seen = step(radius, (limit := rng.uniform(0.49, 0.62)) + 0.012, limit)
    elif kind < 0.8:
        corner = np.abs(y) + np.abs(x)
        seen = step(corner, (limit := rng.uniform(0.68, 0.85)) + 0.012, limit)
        if rng.random() < 0.5:
            seen *= step(np.abs(x), float(x.max()) * 0.97, float(x.max()) * 0.96)
    else:
        return np.ones_like(y)
    image *= seen
    image += (1 - seen) * rng.uniform(0, 12)
    return seen


def _overlay(rng: np.random.Generator, frame: NDArray[np.uint8]) -> None:
    """Lines of writing, as a processor puts them into its picture, in place; random 3x5 dots do for letters."""
    if rng.random() >= 0.3:
        return
    dot = max(1, frame.shape[0] // 256)
    top, left = round(0.25 * frame.shape[0]), round(0.02 * frame.shape[1])
    for _ in range(int(rng.integers(1, 4))):
        letters = rng.random((5, 4 * int(rng.integers(4, 9)))) < 0.6
        letters[:, 3::4] = False  # a column of space after each letter
        line = np.kron(letters, np.ones((dot, dot), bool))
        window = frame[top : top + line.shape[0], left : left + line.shape[1]]
        window[line[: window.shape[0], : window.shape[1]]] = 225
        top += 8 * dot
