"""What the procedural scenes are painted with: noise, soft edges, and the faults of a camera.

Pictures are planes (3, H, W) here: NumPy multiplies long rows, and an inner axis of three colours is ten times slower.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]
"""float32: (H, W), a picture (3, H, W) in 0..255, or a colour (3, 1, 1)."""


def noise(rng: np.random.Generator, shape: tuple[int, ...], cells: float, octaves: int = 1) -> Plane:
    """(H, W) smooth noise of about unit deviation, `cells` bumps along the longer side, each octave half as strong."""
    # The octaves meet on a grid of six points per finest bump; one bilinear step then reaches the full size.
    longer, finest = max(shape), cells * 2 ** (octaves - 1)
    height, width = (max(2, round(side * min(1.0, 6 * finest / longer))) for side in shape)
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        per_pixel = cells * 2**octave / longer
        rows, columns = (max(2, round(side * per_pixel) + 2) for side in shape)
        grid = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.5**octave)
        total += as_plane(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC))
    if (height, width) == shape:
        return total
    return as_plane(cv2.resize(total, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR))


def grain(rng: np.random.Generator, shape: tuple[int, ...], deviation: float) -> Plane:
    """Sensor noise. The sum of two random bytes is near enough to normal, and a tenth of the time."""
    count = int(np.prod(shape))
    total = np.frombuffer(rng.bytes(2 * count), np.uint8).reshape(2, *shape).sum(axis=0, dtype=np.int16)
    return as_plane((total - np.float32(255)) * np.float32(deviation / 104.5))  # 104.5: the sum's own deviation


def step(values: Plane, low: float, high: float) -> Plane:
    """0 below `low`, 1 above `high`, smooth between; `low` may be the larger one for a falling edge."""
    ramp = as_plane(values - np.float32(low))
    ramp *= np.float32(1 / (high - low))
    np.clip(ramp, 0, 1, out=ramp)
    smooth = 3 - 2 * ramp
    smooth *= ramp
    smooth *= ramp
    return smooth


def mix(image: Plane, colour: Plane, weight: Plane) -> None:
    """Blend (3, H, W) `image` towards `colour`, (3, 1, 1) or (3, H, W), by (H, W) `weight`, in place."""
    change = colour - image
    change *= weight
    image += change


def blur(image: Plane, sigma: float) -> Plane:
    """Gaussian blur of (H, W) or (3, H, W); nothing below 0.2 pixels."""
    if sigma <= 0.2:
        return image
    if image.ndim == 2:
        return as_plane(cv2.GaussianBlur(image, (0, 0), sigma))
    return np.stack([as_plane(cv2.GaussianBlur(plane, (0, 0), sigma)) for plane in image])


def rgb(red: float, green: float, blue: float) -> Plane:
    """(3, 1, 1) a colour."""
    return as_plane([red, green, blue])[:, None, None]


def colour(rng: np.random.Generator, low: tuple[float, ...], high: tuple[float, ...]) -> Plane:
    """(3, 1, 1) a colour between two, one random number for brightness and one per channel."""
    share = 0.7 * rng.random() + 0.3 * rng.random(3)
    red, green, blue = np.asarray(low) + (np.asarray(high) - np.asarray(low)) * share
    return rgb(red, green, blue)


def as_plane(values: object) -> Plane:
    """float32, whatever OpenCV and NumPy promoted it to."""
    return cast(Plane, np.asarray(values, np.float32))


def photograph(rng: np.random.Generator, image: Plane, *, softness: float, noise_pixels: float) -> NDArray[np.uint8]:
    """Scene (3, H, W) -> frame (H, W, 3) u8 of a cheap camera: blur, exposure, noise, sometimes JPEG blocks."""
    height = image.shape[1]
    image = blur(image, float(rng.uniform(0, softness) * height / 256))
    image = image * np.float32(rng.uniform(0.85, 1.2))
    image += grain(rng, image.shape, float(rng.uniform(0.5, noise_pixels)))
    np.clip(image, 0, 255, out=image)
    pixels = np.asarray(cv2.merge([plane.astype(np.uint8) for plane in image]), np.uint8)  # (H, W, 3)
    if rng.random() < 0.15:  # motion
        length = max(2, round(rng.uniform(2, 6) * height / 256))
        kernel = np.zeros((length, length), np.float32)
        cv2.line(kernel, (0, int(rng.integers(length))), (length - 1, int(rng.integers(length))), 1.0)
        pixels = np.asarray(cv2.filter2D(pixels, -1, kernel / kernel.sum()), np.uint8)
    if rng.random() < 0.4:
        coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(45, 90))])[1]
        pixels = cast(NDArray[np.uint8], cv2.imdecode(coded, cv2.IMREAD_COLOR))
    return pixels
