"""What a tensor, a frame and a quantized grid are: the values that cross every boundary of the toolkit."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from edge_unet.core.argmax import class_ids, planes_of

Tensors = Mapping[str, NDArray[Any]]
"""Tensor name -> array. The layout of each array is in its TensorSpec."""

Layout = Literal["NCHW", "NHWC"]
DType = Literal["float32", "float16", "int8", "uint8"]


class Frozen(BaseModel):
    """Base of every value object: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class Precision(str, Enum):
    """What the arithmetic of an artifact is. INT8 means weights and activations (w8a8)."""

    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    INT8 = "int8"


class QuantScheme(str, Enum):
    """PORTABLE: s8, zero point 0, everywhere. AFFINE: u8 activations with a zero point (no TensorRT)."""

    PORTABLE = "portable"
    AFFINE = "affine"


class TensorSpec(Frozen):
    """One input or output of an artifact.

    `scale` and `zero_point` are set where the tensor is an integer tensor: real = (q - zero_point) * scale. On a float
    output they mean that the artifact leaves the last rounding to the host: the reader puts values on that int8 grid.
    """

    name: str
    shape: tuple[int, ...]
    dtype: DType
    layout: Layout
    scale: float | None = None
    zero_point: int | None = None

    @model_validator(mode="after")
    def _integers_have_a_grid(self) -> TensorSpec:
        if self.dtype in ("int8", "uint8") and (self.scale is None or self.zero_point is None):
            raise ValueError(f"tensor {self.name!r} is {self.dtype} but has no scale and zero point")
        return self


class PreprocessSpec(Frozen):
    """How a camera frame becomes the input of the network: one object for training, calibration,
    benchmark and camera.

    The network's input is real = (pixel - mean) * scale with pixel in 0..255. With mean 128 and scale 1/64 the
    input lies exactly on the int8 grid (q = pixel - 128, step 1/64): a u8 frame IS the quantized input, nothing
    is lost and no float pass is needed. Zero padding inside the network then means mid-grey.
    """

    height: int = Field(gt=0)
    width: int = Field(gt=0)
    channels: Literal[1, 3] = 3
    color_order: Literal["RGB", "BGR", "GRAY"] = "RGB"
    resize: Literal["stretch", "letterbox"] = "stretch"
    mean: float = 128.0
    scale: float = 1.0 / 64.0
    pad_value: int = Field(default=128, ge=0, le=255)

    @model_validator(mode="after")
    def _channels_match_the_colours(self) -> PreprocessSpec:
        if (self.channels == 1) != (self.color_order == "GRAY"):
            raise ValueError(f"channels={self.channels} does not fit color_order={self.color_order}")
        return self

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """u8 pixels of any shape -> the network's real input, float32, same shape."""
        return (pixels.astype(np.float32) - np.float32(self.mean)) * np.float32(self.scale)


class ClassSpec(Frozen):
    """The classes of the masks. Binary: one logit channel, names = (background, foreground).
    Multi-class: one channel per name. `palette` holds one RGB colour per name."""

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    ignore_value: int | None = None

    @model_validator(mode="after")
    def _one_colour_per_class(self) -> ClassSpec:
        if len(self.names) < 2 or len(self.palette) != len(self.names):
            raise ValueError(f"{len(self.names)} class names need as many colours, received {len(self.palette)}")
        return self

    @property
    def channels(self) -> int:
        """Logit channels of the network: 1 for binary, else one per class."""
        return 1 if len(self.names) == 2 else len(self.names)


def mask_from_logits(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(N, C, H, W) logits -> (N, H, W) class ids: logit > 0 for one channel, else argmax."""
    if logits.shape[1] == 1:
        return np.asarray((logits[:, 0] > 0).astype(np.uint8))  # (N, H, W)
    return np.asarray(logits.argmax(axis=1).astype(np.uint8))  # (N, H, W)


def feed_from_pixels(pixels: NDArray[np.uint8], spec: TensorSpec, preprocess: PreprocessSpec) -> NDArray[Any]:
    """(N, H, W, C) u8 pixels -> the array that input `spec` takes, in its dtype and layout.

    uint8 takes the frame as it is, int8 takes pixel - 128 (one XOR), floats take `preprocess.normalize`.
    """
    frame = pixels if spec.layout == "NHWC" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    if spec.dtype == "uint8":
        return frame
    if spec.dtype == "int8":
        return (frame ^ np.uint8(0x80)).view(np.int8)
    return preprocess.normalize(frame).astype(spec.dtype)


def logits_from_output(output: NDArray[Any], spec: TensorSpec) -> NDArray[np.float32]:
    """The raw array of output `spec` -> (N, C, H, W) float32 logits, on the spec's grid where it has one."""
    if spec.scale is not None and spec.dtype.startswith("float"):
        step = np.float32(spec.scale)
        real = np.clip(np.rint(output.astype(np.float32) / step), -128, 127) * step
    elif spec.scale is not None and spec.zero_point is not None:
        real = (output.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)
    else:
        real = output.astype(np.float32)
    return real if spec.layout == "NCHW" else np.ascontiguousarray(real.transpose(0, 3, 1, 2))


def mask_from_output(output: NDArray[Any], spec: TensorSpec) -> NDArray[np.uint8]:
    """The raw array of output `spec` -> (N, H, W) class ids, the same as mask_from_logits(logits_from_output(...)).

    Read where the values lie: one channel is one comparison with the code of logit 0 (a float on a grid: with half a
    step, which the grid rounds to 0), several are an argmax over codes. No logit is computed.
    """
    axis = 1 if spec.layout == "NCHW" else 3
    if output.shape[axis] == 1:
        flat = output[:, 0] if axis == 1 else output[..., 0]  # (N, H, W)
        return np.asarray((flat > _zero_of(spec)).view(np.uint8))
    masks = (class_ids(_codes(image if axis == 1 else planes_of(image), spec)) for image in output)
    return np.stack(list(masks))  # (N, H, W)


def _codes(planes: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    """(C, H, W) raw values -> what orders them as their logits: a float on a grid becomes its code, since what the grid
    makes equal must stay equal."""
    if spec.scale is None or not spec.dtype.startswith("float"):
        return planes
    codes = np.empty(planes.shape, np.int8)
    step = np.float32(spec.scale)
    for plane, code in zip(planes, codes, strict=True):  # a plane at a time stays in the cache
        code[...] = np.clip(np.rint(plane.astype(np.float32) / step), -128, 127)
    return codes


def _zero_of(spec: TensorSpec) -> int | np.float32:
    """What a raw value must exceed for a logit above 0."""
    if spec.scale is None:
        return np.float32(0)
    return np.float32(spec.scale / 2) if spec.dtype.startswith("float") else (spec.zero_point or 0)
