"""Joint augmentation of a batch, in tensors: one grid for frame and mask, colours as one 3x3 matrix per image.

Everything random is drawn from one torch.Generator, so its state alone resumes a training run. Frames are sampled
bilinear, masks nearest: no label is ever interpolated.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import AugmentSpec
from edge_unet.core.spec import PreprocessSpec

_LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of R, G, B."""
_COARSE = 3
"""The elastic grid is 3x3 (U-Net paper, section 3.1)."""
_NOISE_PIXELS = 8.0
"""Largest standard deviation of the noise, in pixel values."""


def augment(
    frames: Tensor,
    masks: Tensor,
    spec: AugmentSpec,
    preprocess: PreprocessSpec,
    *,
    size: tuple[int, int],
    ignore: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Augment `frames` (N, C, H, W) u8 and `masks` (N, H, W) u8 together.

    Returns x (N, C, h, w) float32, the network's real input (pixel - mean) * scale with pixels kept in 0..255, and
    y (N, h, w) int64 class ids, with (h, w) = `size`. Where the geometry looks outside the frame, x is the pad value
    (mid-grey, real 0) and y is `ignore`. Shifts and elastic displacements are in pixels of the frame, whatever `size`.
    Raises UsageError where the shapes or dtypes are not as stated.
    """
    _check(frames, masks, preprocess)
    count, _, height, width = frames.shape
    grid = _grid(count, (height, width), size, spec, generator, frames.device)
    pixels = frames.float()
    factor = min(height // size[0], width // size[1])
    if factor >= 2:  # bilinear sampling alone would alias
        pixels = F.avg_pool2d(pixels, factor)  # (N, C, H / factor, W / factor)
    pixels = _recolour(pixels, spec, preprocess, generator)
    # Measured from the pad value, zero padding is the pad value, and the frame's edge blends into it.
    pixels = F.grid_sample(pixels.sub_(preprocess.pad_value), grid, align_corners=False)  # (N, C, h, w)
    # Labels are counted from 1 here, so that the zeros of the padding mean "outside".
    labels = F.grid_sample(masks[:, None].float().add_(1), grid, mode="nearest", align_corners=False)[:, 0]  # (N, h, w)
    inside = labels > 0
    _disturb(pixels, inside, spec, generator)
    offset = float(preprocess.pad_value)
    x = pixels.clamp_(-offset, 255.0 - offset).add_(offset - preprocess.mean).mul_(preprocess.scale)
    y = labels.long().sub_(1).masked_fill_(~inside, ignore)
    return x, y


def _check(frames: Tensor, masks: Tensor, preprocess: PreprocessSpec) -> None:
    """Raise UsageError unless the batch is u8 and its shapes fit."""
    if frames.dtype != torch.uint8 or masks.dtype != torch.uint8 or frames.ndim != 4:
        raise UsageError(
            f"augment: frames {tuple(frames.shape)} {frames.dtype}, masks {tuple(masks.shape)} {masks.dtype}; "
            "expected (N, C, H, W) and (N, H, W), both uint8"
        )
    if masks.shape != (frames.shape[0], *frames.shape[2:]) or frames.shape[1] != preprocess.channels:
        raise UsageError(
            f"augment: frames {tuple(frames.shape)} and masks {tuple(masks.shape)} do not fit each other "
            f"or the recipe's {preprocess.channels} channels"
        )


def _uniform(count: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """(count,) values between `low` and `high`."""
    return torch.rand(count, generator=generator, device=generator.device) * (high - low) + low


def _chosen(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """(count,) 1.0 with `probability`, else 0.0."""
    return (torch.rand(count, generator=generator, device=generator.device) < probability).float()


def _grid(
    count: int,
    source: tuple[int, int],
    size: tuple[int, int],
    spec: AugmentSpec,
    generator: torch.Generator,
    device: torch.device,
) -> Tensor:
    """Where each output pixel looks, (N, h, w, 2) in grid_sample's -1..1.

    Per axis the field is rows @ core @ columns with five basis functions each way: three bicubic ones for the elastic
    grid, the coordinate, and one. Two thin matrix products replace an upsampling and an affine grid.
    """
    half = torch.tensor([source[1] / 2, source[0] / 2])  # x, y in source pixels from the centre
    angle = _uniform(count, -spec.rotate_degrees, spec.rotate_degrees, generator) * (math.pi / 180)
    zoom = torch.exp(_uniform(count, math.log(spec.scale[0]), math.log(spec.scale[1]), generator))
    mirror_x = 1 - 2 * _chosen(count, spec.flip_horizontal, generator)
    mirror_y = 1 - 2 * _chosen(count, spec.flip_vertical, generator)
    shift = torch.stack([_uniform(count, -spec.shift, spec.shift, generator) for _ in range(2)], 1)  # (N, 2)
    elastic = _chosen(count, spec.elastic, generator) * spec.elastic_pixels
    bumps = torch.randn(count, 2, _COARSE, _COARSE, generator=generator, device=generator.device)
    bumps = bumps * elastic[:, None, None, None]

    cos, sin = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    half = half.to(generator.device)
    core = torch.zeros(count, 2, _COARSE + 2, _COARSE + 2, device=generator.device)  # (N, xy, row basis, column basis)
    core[:, :, :_COARSE, :_COARSE] = bumps / half[:, None, None]
    core[:, 0, -1, -2] = cos * mirror_x
    core[:, 0, -2, -1] = -sin * mirror_y * (half[1] / half[0])
    core[:, 1, -1, -2] = sin * mirror_x * (half[0] / half[1])
    core[:, 1, -2, -1] = cos * mirror_y
    core[:, :, -1, -1] = 2 * shift
    core = core.to(device)
    rows, columns = _basis(size[0]).to(device), _basis(size[1]).to(device)
    return (rows @ core @ columns.T).permute(0, 2, 3, 1)  # (N, h, w, 2)


def _basis(length: int) -> Tensor:
    """(length, 5): bicubic weights of three points that span the axis, the pixel centre in -1..1, and one."""
    eye = torch.eye(_COARSE)[None, None]  # (1, 1, 3, 3)
    cubic = F.interpolate(eye, (length, _COARSE), mode="bicubic", align_corners=True)[0, 0]  # (length, 3)
    centre = (torch.arange(length) + 0.5) * (2 / length) - 1
    return torch.cat([cubic, centre[:, None], torch.ones(length, 1)], 1)  # (length, 5)


def _recolour(pixels: Tensor, spec: AugmentSpec, preprocess: PreprocessSpec, generator: torch.Generator) -> Tensor:
    """Brightness, contrast, saturation and hue of (N, C, H, W) pixels as one affine map of the colours, in 0..255."""
    count = pixels.shape[0]
    brightness = 1 + _uniform(count, -spec.brightness, spec.brightness, generator)
    contrast = 1 + _uniform(count, -spec.contrast, spec.contrast, generator)
    saturation = 1 + _uniform(count, -spec.saturation, spec.saturation, generator)
    hue = _uniform(count, -spec.hue, spec.hue, generator) * (2 * math.pi)
    gain = (brightness * contrast).to(pixels.device)[:, None, None]
    offset = (128 * (1 - contrast)).to(pixels.device)[:, None, None]  # contrast turns about mid-grey
    if preprocess.channels == 1:
        return (pixels * gain[..., None]).add_(offset[..., None]).clamp_(0, 255)
    matrix = _colour_matrix(saturation, hue, preprocess.color_order).to(pixels.device) * gain  # (N, 3, 3)
    mixed = torch.baddbmm(offset, matrix, pixels.flatten(2))  # (N, 3, H * W)
    return mixed.clamp_(0, 255).view_as(pixels)


def _colour_matrix(saturation: Tensor, hue: Tensor, color_order: str) -> Tensor:
    """(N, 3, 3): scale and turn the colour of a pixel around its luma, which stays."""
    # YIQ: luma, and two colour axes at right angles in which hue is an angle.
    to_yiq = torch.tensor([_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112)], device=hue.device)
    if color_order == "BGR":
        to_yiq = to_yiq.flip(1)
    turn = torch.zeros(len(hue), 3, 3, device=hue.device)
    turn[:, 0, 0] = 1
    turn[:, 1, 1] = turn[:, 2, 2] = saturation * torch.cos(hue)
    turn[:, 2, 1] = saturation * torch.sin(hue)
    turn[:, 1, 2] = -turn[:, 2, 1]
    matrix: Tensor = torch.linalg.inv(to_yiq) @ turn @ to_yiq  # (N, 3, 3)
    return matrix


def _disturb(pixels: Tensor, inside: Tensor, spec: AugmentSpec, generator: torch.Generator) -> None:
    """Blur some images and add noise to some, in place; what lies outside the frame stays the pad value."""
    count = pixels.shape[0]
    blurred = _chosen(count, spec.blur, generator)
    noisy = _chosen(count, spec.noise, generator)
    sigma = _uniform(count, 0.4, 1.5, generator)
    strength = _uniform(count, 1.0, _NOISE_PIXELS, generator)
    for index in torch.nonzero(blurred).flatten().tolist():
        pixels[index] = _blur(pixels[index], float(sigma[index])) * inside[index]
    for index in torch.nonzero(noisy).flatten().tolist():
        noise = torch.randn(pixels.shape[1:], generator=generator, device=generator.device)
        pixels[index] += (noise * strength[index]).to(pixels.device) * inside[index]


def _blur(image: Tensor, sigma: float) -> Tensor:
    """(C, H, W) -> the same, seven-tap Gaussian each way, edges repeated."""
    taps = torch.exp(-0.5 * (torch.arange(-3, 4, device=image.device) / sigma) ** 2)
    taps = taps / taps.sum()
    padded = F.pad(image[:, None], (3, 3, 3, 3), mode="replicate")  # (C, 1, H + 6, W + 6)
    return F.conv2d(F.conv2d(padded, taps.view(1, 1, 7, 1)), taps.view(1, 1, 1, 7))[:, 0]  # (C, H, W)
