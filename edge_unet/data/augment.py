"""Joint augmentation of a batch, in tensors: one grid for frame and mask, colours as one 3x3 matrix per image.

Everything random is drawn from one torch.Generator, so its state alone resumes a training run. Frames are sampled
bilinear, masks nearest: no label is ever interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

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
    (mid-grey, real 0) and y is `ignore`. Elastic displacements are in pixels of the frame, whatever `size`; shifts are
    shares of what is shown, the frame or (`spec.patch`) a window of it.
    Raises UsageError where the shapes or dtypes are not as stated.
    """
    _check(frames, masks, preprocess)
    count, channels = frames.shape[:2]
    draw = _draw(masks, spec, preprocess, ignore, generator)
    x = torch.empty(count, channels, *size, device=frames.device)
    y = torch.empty(count, *size, dtype=torch.int64, device=frames.device)
    # One image stays in a CPU core's cache through all steps; a GPU wants the whole batch.
    step = 1 if frames.device.type == "cpu" else count
    for begin in range(0, count, step):
        part = slice(begin, begin + step)
        pixels, labels = _sample(
            frames[part], masks[part], draw.part(part).to(frames.device), preprocess, size, spec.patch
        )
        inside = labels > 0
        _disturb(pixels, inside, draw.part(part), generator)
        offset = float(preprocess.pad_value)
        pixels.clamp_(-offset, 255.0 - offset).add_(offset - preprocess.mean)
        torch.mul(pixels, preprocess.scale, out=x[part])
        y[part] = labels.sub_(1).masked_fill_(~inside, ignore)
    return x, y


@dataclass(frozen=True, slots=True)
class _Draw:
    """All that chance decides about N images, but the noise itself."""

    core: Tensor  # (N, 2, 5, 5), see _geometry
    gain: Tensor  # (N, C, C) colour matrix
    offset: Tensor  # (N, C, 1)
    blur: Tensor  # (N,) sigma in pixels, 0 = none
    noise: Tensor  # (N,) standard deviation in pixel values, 0 = none

    def part(self, part: slice) -> _Draw:
        return _Draw(self.core[part], self.gain[part], self.offset[part], self.blur[part], self.noise[part])

    def to(self, device: torch.device) -> _Draw:
        return _Draw(*(value.to(device) for value in (self.core, self.gain, self.offset, self.blur, self.noise)))


def _draw(
    masks: Tensor, spec: AugmentSpec, preprocess: PreprocessSpec, ignore: int, generator: torch.Generator
) -> _Draw:
    """Decide everything for the frames of `masks` (N, H, W), on the generator's device."""
    count, height, width = masks.shape
    core = _geometry(count, (height, width), spec, generator)
    gain, offset = _colours(count, spec, preprocess, generator)
    blur = _chosen(count, spec.blur, generator) * _uniform(count, 0.4, 1.5, generator)
    noise = _chosen(count, spec.noise, generator) * _uniform(count, 1.0, _NOISE_PIXELS, generator)
    if spec.patch < 1:  # drawn last: whoever cuts no windows keeps the numbers of before
        core[:, :, -1, -1] += _window_centres(masks, spec, ignore, generator)
    return _Draw(core, gain, offset, blur, noise)


def _sample(
    frames: Tensor, masks: Tensor, draw: _Draw, preprocess: PreprocessSpec, size: tuple[int, int], patch: float
) -> tuple[Tensor, Tensor]:
    """Pixels (N, C, h, w) less the pad value, and labels (N, h, w) counted from 1, 0 outside the frame. `patch` is the
    share of the frame that `size` shows."""
    height, width = frames.shape[2:]
    count = len(frames)
    rows, columns = (_basis(length).to(frames.device) for length in size)
    across = (draw.core @ columns.T).permute(0, 2, 3, 1).reshape(count, _COARSE + 2, -1)  # (N, 5, w * 2)
    grid = (rows @ across).view(count, *size, 2)  # (N, h, w, 2), as grid_sample reads it
    pixels = frames.float()
    factor = int(min(height * patch / size[0], width * patch / size[1]))
    if factor >= 2:  # bilinear sampling alone would alias
        pixels = F.avg_pool2d(pixels, factor)  # (N, C, H / factor, W / factor)
    mixed = torch.baddbmm(draw.offset, draw.gain, pixels.flatten(2)).clamp_(0, 255).view_as(pixels)
    # Measured from the pad value, zero padding is the pad value, and the frame's edge blends into it.
    sampled = F.grid_sample(mixed.sub_(preprocess.pad_value), grid, align_corners=False)  # (N, C, h, w)
    # Labels are counted from 1 here, so that the zeros of the padding mean "outside".
    labels = F.grid_sample(masks[:, None].float().add_(1), grid, mode="nearest", align_corners=False)
    return sampled, labels[:, 0]  # (N, h, w)


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


def _geometry(count: int, source: tuple[int, int], spec: AugmentSpec, generator: torch.Generator) -> Tensor:
    """Where each output pixel looks, as the (N, xy, 5, 5) core of rows @ core @ columns, in grid_sample's -1..1.

    Each axis has five basis functions (`_basis`): three bicubic ones for the elastic grid, the coordinate, and one.
    Two thin matrix products replace an upsampling and an affine grid.
    """
    half = torch.tensor([source[1] / 2, source[0] / 2])  # x, y in source pixels from the centre
    angle = _uniform(count, -spec.rotate_degrees, spec.rotate_degrees, generator) * (math.pi / 180)
    zoom = torch.exp(_uniform(count, math.log(spec.scale[0]), math.log(spec.scale[1]), generator)) / spec.patch
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
    core[:, :, -1, -1] = 2 * spec.patch * shift
    return core


def _window_centres(masks: Tensor, spec: AugmentSpec, ignore: int, generator: torch.Generator) -> Tensor:
    """(N, xy) in -1..1: where each window's centre lies, a foreground pixel with `spec.foreground_bias`, else anywhere;
    in both cases no further out than the window fits the frame."""
    count, height, width = masks.shape
    anywhere = torch.stack([_uniform(count, -1.0, 1.0, generator) for _ in range(2)], 1)  # (N, 2)
    biased = _chosen(count, spec.foreground_bias, generator).to(masks.device)
    pick = _uniform(count, 0.0, 1.0, generator).to(masks.device)
    running = ((masks > 0) & (masks != ignore)).flatten(1).cumsum(1)  # (N, H * W) foreground pixels so far
    total = running[:, -1:]
    index = torch.searchsorted(running, (pick[:, None] * total).long() + 1).clamp_(max=height * width - 1)[:, 0]
    chosen = torch.stack([(index % width + 0.5) * (2 / width) - 1, (index // width + 0.5) * (2 / height) - 1], 1)
    on_foreground = (biased > 0) & (total[:, 0] > 0)  # (N,)
    limit = 1 - spec.patch
    centres = torch.where(on_foreground[:, None], chosen.clamp(-limit, limit), anywhere.to(masks.device) * limit)
    return centres.to(generator.device)


@lru_cache(maxsize=16)
def _basis(length: int) -> Tensor:
    """(length, 5): bicubic weights of three points that span the axis, the pixel centre in -1..1, and one."""
    eye = torch.eye(_COARSE)[None, None]  # (1, 1, 3, 3)
    cubic = F.interpolate(eye, (length, _COARSE), mode="bicubic", align_corners=True)[0, 0]  # (length, 3)
    centre = (torch.arange(length) + 0.5) * (2 / length) - 1
    return torch.cat([cubic, centre[:, None], torch.ones(length, 1)], 1)  # (length, 5)


def _colours(
    count: int, spec: AugmentSpec, preprocess: PreprocessSpec, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Brightness, contrast, saturation and hue as one affine map of the colours: (N, C, C) and (N, C, 1)."""
    brightness = 1 + _uniform(count, -spec.brightness, spec.brightness, generator)
    contrast = 1 + _uniform(count, -spec.contrast, spec.contrast, generator)
    saturation = 1 + _uniform(count, -spec.saturation, spec.saturation, generator)
    hue = _uniform(count, -spec.hue, spec.hue, generator) * (2 * math.pi)
    gain = (brightness * contrast)[:, None, None]
    offset = (128 * (1 - contrast))[:, None, None].expand(count, preprocess.channels, 1)  # turns about mid-grey
    if preprocess.channels == 1:
        return gain, offset
    return _colour_matrix(saturation, hue, preprocess.color_order) * gain, offset


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


def _disturb(pixels: Tensor, inside: Tensor, draw: _Draw, generator: torch.Generator) -> None:
    """Blur some images and add noise to some, in place; what lies outside the frame stays the pad value."""
    for index, sigma in enumerate(draw.blur.tolist()):
        if sigma:
            pixels[index] = _blur(_blur(pixels[index], sigma, 1), sigma, 2).mul_(inside[index].float())
    for index, deviation in enumerate(draw.noise.tolist()):
        if deviation:
            noise = torch.randn(pixels.shape[1:], generator=generator, device=generator.device)
            pixels[index].addcmul_(noise.to(pixels.device), inside[index].float(), value=deviation)


def _blur(image: Tensor, sigma: float, axis: int) -> Tensor:
    """(C, H, W) -> the same, Gaussian of seven taps along `axis`, edges repeated.

    Shifted sums: a depthwise convolution of one channel takes ten times as long on a CPU.
    """
    taps = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(4)]
    total = taps[0] + 2 * sum(taps[1:])
    length = image.shape[axis]
    edges = (image.narrow(axis, 0, 1),) * 3, (image.narrow(axis, length - 1, 1),) * 3
    padded = torch.cat([*edges[0], image, *edges[1]], axis)
    blurred = image * (taps[0] / total)
    for offset in range(1, 4):
        weight = taps[offset] / total
        blurred.add_(padded.narrow(axis, 3 - offset, length), alpha=weight)
        blurred.add_(padded.narrow(axis, 3 + offset, length), alpha=weight)
    return blurred
