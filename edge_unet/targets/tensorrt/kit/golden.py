# ruff: noqa: TID252 - the folder is copied out of the package, see __init__
"""Golden frames: PNG in, masks compared, with nothing but numpy (a Jetson's system Python has no PNG reader)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .spec import KitError, KitSpec

SIGNATURE = b"\x89PNG\r\n\x1a\n"
CHANNELS = {0: 1, 2: 3}  # PNG colour types: grey, RGB


@dataclass(frozen=True)
class GoldenFrame:
    """One frame (H, W, C) u8 RGB or grey, and the class ids (H, W) u8 that the reference gives for it."""

    name: str
    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8]


@dataclass(frozen=True)
class Agreement:
    """Pixels that differ from the reference, and how many of them lie within half a logit step of the decision."""

    pixels: int
    differing: int
    near: int

    @property
    def ratio(self) -> float:
        """Share of pixels that agree; those within half a step are counted apart, since the engine leaves the logits
        float where the reference rounds them."""
        return 1.0 - (self.differing - self.near) / self.pixels


def read_golden(folder: Path, spec: KitSpec) -> list[GoldenFrame]:
    """NN.png with NN.mask.png, sorted. Raises KitError where there are none or a size differs from the model's."""
    frames = []
    for path in sorted(p for p in folder.glob("*.png") if not p.name.endswith(".mask.png")):
        mask = path.with_name(path.stem + ".mask.png")
        if mask.is_file():
            frames.append(GoldenFrame(path.name, frame_pixels(path, spec), read_png(mask)[..., 0]))
    if not frames:
        raise KitError(f"{folder}: no golden frames (NN.png with NN.mask.png); give --golden FOLDER or --no-golden", 2)
    return frames


def frame_pixels(path: Path, spec: KitSpec) -> NDArray[np.uint8]:
    """A PNG of the model's input size as (H, W, C) u8. Raises KitError naming both sizes."""
    pixels = read_png(path)
    expected = (spec.input_shape[2], spec.input_shape[3], spec.input_shape[1])
    if pixels.shape[2] == 1 and expected[2] == 3:
        pixels = np.repeat(pixels, 3, axis=2)  # (H, W, 3)
    if pixels.shape != expected:
        raise KitError(f"{path}: expected (H, W, C) {expected}, received {pixels.shape}; resize the frame first", 2)
    return pixels


def feed(pixels: NDArray[np.uint8], spec: KitSpec) -> NDArray[np.float32]:
    """(H, W, C) u8 -> (1, C, H, W) float32, the network's real input."""
    ordered = pixels[..., ::-1] if spec.color_order == "BGR" else pixels
    real = (ordered.astype(np.float32) - np.float32(spec.mean)) * np.float32(spec.scale)
    return np.ascontiguousarray(real.transpose(2, 0, 1)[None])  # (1, C, H, W)


def mask_of(logits: NDArray[np.float32], logit_step: float) -> NDArray[np.uint8]:
    """(1, C, H, W) float logits -> (H, W) class ids: logit > 0 for one channel, else argmax.

    The engine leaves out the canonical graph's last rounding, to int8 codes of `logit_step`; it is done here.
    """
    logits = np.clip(np.rint(logits / np.float32(logit_step)), -128, 127)
    if logits.shape[1] == 1:
        return np.asarray(logits[0, 0] > 0, np.uint8)  # (H, W)
    return np.asarray(logits[0].argmax(axis=0), np.uint8)  # (H, W)


def compare(logits: NDArray[np.float32], expected: NDArray[np.uint8], logit_step: float) -> Agreement:
    """Count differing pixels. Near: |logit| <= step/2, or the best two classes within one step of each other."""
    differs = mask_of(logits, logit_step) != expected
    if logits.shape[1] == 1:
        near = np.abs(logits[0, 0]) <= logit_step / 2
    else:
        best = np.sort(logits[0], axis=0)
        near = best[-1] - best[-2] <= logit_step
    return Agreement(int(expected.size), int(differs.sum()), int((differs & near).sum()))


def read_png(path: Path) -> NDArray[np.uint8]:
    """An 8-bit grey or RGB PNG without interlacing as (H, W, C). Raises KitError for any other file."""
    try:
        header, data = _chunks(path.read_bytes())
        width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header)
        if depth != 8 or colour not in CHANNELS or interlace:
            raise ValueError(f"bit depth {depth}, colour type {colour}, interlace {interlace}")
        return _unfilter(zlib.decompress(data), height, width, CHANNELS[colour])
    except (OSError, ValueError, struct.error, zlib.error) as error:
        raise KitError(f"{path}: expected an 8-bit grey or RGB PNG, received {error}", 2) from error


def write_png(path: Path, mask: NDArray[np.uint8]) -> None:
    """(H, W) u8 as a grey PNG."""
    height, width = mask.shape
    rows = np.concatenate((np.zeros((height, 1), np.uint8), mask), axis=1)  # (H, 1 + W), filter type 0 per row
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(SIGNATURE + body)


def _chunks(raw: bytes) -> tuple[bytes, bytes]:
    """(IHDR, all IDAT joined)."""
    if raw[:8] != SIGNATURE:
        raise ValueError("another kind of file")
    header, data, at = b"", b"", 8
    while at + 8 <= len(raw):
        (length,) = struct.unpack(">I", raw[at : at + 4])
        kind, body = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]
        header = body if kind == b"IHDR" else header
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    return header, data


def _unfilter(raw: bytes, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Undo PNG's five row filters (PNG specification, section 9)."""
    rows = np.frombuffer(raw, np.uint8).reshape(height, 1 + width * channels)
    out = np.zeros((height + 1, width * channels), np.uint8)  # row 0 stands above the image
    for y in range(height):
        kind, line, above = int(rows[y, 0]), rows[y, 1:], out[y]
        if kind in (0, 2):
            out[y + 1] = line + above if kind == 2 else line
        elif kind == 1:
            out[y + 1] = np.cumsum(line.reshape(width, channels), axis=0, dtype=np.uint8).reshape(-1)
        elif kind in (3, 4):
            out[y + 1] = _predict(line.tolist(), above.tolist(), channels, paeth=kind == 4)
        else:
            raise ValueError(f"filter type {kind}")
    return out[1:].reshape(height, width, channels)


def _predict(line: list[int], above: list[int], channels: int, *, paeth: bool) -> list[int]:
    """The Average and Paeth filters, whose prediction needs the pixel just decoded."""
    row = [0] * channels + line
    up = [0] * channels + above
    for x in range(channels, len(row)):
        left, top, corner = row[x - channels], up[x], up[x - channels]
        if paeth:
            distances = abs(top - corner), abs(left - corner), abs(left + top - 2 * corner)
            guess = (left, top, corner)[distances.index(min(distances))]
        else:
            guess = (left + top) // 2
        row[x] = (row[x] + guess) & 255
    return row[channels:]
