"""Segment frames with this bundle: numpy and the runtime's own package, nothing of edge_unet.

    python3 segment.py FRAME.png MASK.png    any size; PNG of 8 bits or PPM in, PNG of class ids out
    python3 segment.py --ppm FRAME.png FRAME.ppm                what the C++ sample reads
    python3 segment.py --check [PROGRAM]     the golden frames: this file, or the C++ program segment, must give their
                                             masks (99.9 % of the pixels, since engines round differently)

Everything about the model is read from manifest.json of the bundle that this file lies in. More around the same call
(cleanup, tiles, cameras): pip install "edge-unet[openvino]" or [tflite], without torch; edge_unet.segment.Segmenter.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BUNDLE = Path(__file__).resolve().parents[2]
AGREEMENT = 0.999
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Segmenter:
    """`Segmenter()(frame)`: (H, W, C) u8 in the model's colour order -> (H, W) u8 class ids."""

    def __init__(self, bundle: Path = BUNDLE, threads: int = 1) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        self.spec = manifest["preprocess"]
        self.classes = manifest["classes"]
        artifact = manifest["artifact"]
        self._source, self._sink = artifact["inputs"][0], artifact["outputs"][0]
        self._infer = RUNTIMES[artifact["target"]](bundle / artifact["path"], self._sink["name"], threads)

    def __call__(self, frame: Any) -> Any:
        """Resize, infer, read the mask, bring it to the frame's size."""
        height, width = frame.shape[:2]
        feed = feed_from_pixels(resize_frame(frame, self.spec)[None], self._source, self.spec)
        mask = mask_from_output(self._infer(feed), self._sink)
        return restore_mask(mask, height, width, self.spec)


def open_openvino(path: Path, output: str, threads: int) -> Callable[[Any], Any]:
    """OpenVINO on the CPU: integer layers stay integer, one stream, tuned for latency."""
    import openvino

    options = {
        "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    request = openvino.Core().compile_model(str(path / "model.xml"), "CPU", options).create_infer_request()
    return lambda feed: request.infer({0: feed})[0]


def open_litert(path: Path, output: str, threads: int) -> Callable[[Any], Any]:
    """LiteRT on the CPU with XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_path=str(path), num_threads=threads).get_signature_runner()
    (source,) = runner.get_input_details()
    return lambda feed: runner(**{source: feed})[output]


def open_onnx(path: Path, output: str, threads: int) -> Callable[[Any], Any]:
    """ONNX Runtime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0].name
    return lambda feed: session.run([output], {source: feed})[0]


RUNTIMES = {"cpu": open_openvino, "android": open_litert, "embedded-linux": open_litert, "onnx": open_onnx}


def feed_from_pixels(pixels: Any, source: dict[str, Any], spec: dict[str, Any]) -> Any:
    """(1, H, W, C) u8 -> the input: u8 as it is, int8 as pixel - 128, float as (pixel - mean) * scale."""
    frame = pixels if source["layout"] == "NHWC" else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    if source["dtype"] == "uint8":
        return frame
    if source["dtype"] == "int8":
        return (frame ^ np.uint8(0x80)).view(np.int8)
    return (frame.astype(np.float32) - np.float32(spec["mean"])) * np.float32(spec["scale"])


def mask_from_output(output: Any, sink: dict[str, Any]) -> Any:
    """The raw output -> (h, w) class ids: logit > 0 for one channel, else argmax."""
    planes = output[0] if sink["layout"] == "NCHW" else np.ascontiguousarray(output[0].transpose(2, 0, 1))  # (C, h, w)
    if sink["scale"] is not None and sink["dtype"] == "float32":  # a value on a grid: its code
        planes = np.clip(np.rint(planes / np.float32(sink["scale"])), -128, 127).astype(np.int8)
    if len(planes) == 1:
        return (planes[0] > (sink["zero_point"] or 0)).astype(np.uint8)
    most, ids = planes[0].copy(), np.zeros(planes.shape[1:], np.uint8)
    for number in range(1, len(planes)):  # whole planes at a time: many times as fast as argmax over a short axis
        np.maximum(ids, (planes[number] > most) * np.uint8(number), out=ids)
        np.maximum(most, planes[number], out=most)
    return ids


def inner_of(height: int, width: int, spec: dict[str, Any]) -> tuple[int, int, int, int]:
    """Where the frame lands in the input: (top, left, height, width)."""
    if spec["resize"] == "stretch":
        return 0, 0, spec["height"], spec["width"]
    ratio = min(spec["height"] / height, spec["width"] / width)
    h, w = max(1, round(height * ratio)), max(1, round(width * ratio))
    return (spec["height"] - h) // 2, (spec["width"] - w) // 2, h, w


def resize_frame(frame: Any, spec: dict[str, Any]) -> Any:
    """(H, W, C) u8 -> input size, byte for byte as OpenCV: INTER_AREA where both sides shrink, else INTER_LINEAR.
    With OpenCV at hand, cv2.resize is faster."""
    top, left, h, w = inner_of(frame.shape[0], frame.shape[1], spec)
    if frame.shape[:2] != (h, w):
        frame = (shrink if h < frame.shape[0] and w < frame.shape[1] else interpolate)(frame, h, w)
    canvas = np.full((spec["height"], spec["width"], frame.shape[2]), spec["pad_value"], np.uint8)
    canvas[top : top + h, left : left + w] = frame
    return canvas


def restore_mask(mask: Any, height: int, width: int, spec: dict[str, Any]) -> Any:
    """(h, w) class ids -> (height, width), nearest; letterbox bars are cut."""
    top, left, h, w = inner_of(height, width, spec)
    return mask[top : top + h, left : left + w][np.ix_(nearest(h, height), nearest(w, width))]


def nearest(size: int, to: int) -> Any:
    """The source index of every target index: half a step, then step by step, as OpenCV 5 and Pillow add them up."""
    step = size / to
    places = np.add.accumulate(np.array([step * 0.5] + [step] * (to - 1)))
    return np.minimum(np.floor(places).astype(np.int64), size - 1)


def shrink(frame: Any, h: int, w: int) -> Any:
    """Area averaging."""
    scales = [1 / (h / frame.shape[0]), 1 / (w / frame.shape[1])]
    whole = [round(scale) for scale in scales]
    if max(abs(scales[0] - whole[0]), abs(scales[1] - whole[1])) < np.finfo(np.float64).eps:
        sums = frame.reshape(h, whole[0], w, whole[1], -1).sum(axis=(1, 3), dtype=np.int32)  # (h, w, C)
        if whole == [2, 2]:
            return ((sums + 2) >> 2).astype(np.uint8)
        return np.rint(sums.astype(np.float32) * (np.float32(1) / np.float32(whole[0] * whole[1]))).astype(np.uint8)
    lines = frame.astype(np.float32)
    for axis, size in ((1, w), (0, h)):
        total: Any = np.float32(0)
        for index, share in area_taps(lines.shape[axis], size):
            total = total + lines.take(index, axis) * share.reshape((-1, 1) if axis else (-1, 1, 1))
        lines = total
    return np.clip(np.rint(lines), 0, 255).astype(np.uint8)


def area_taps(size: int, to: int) -> list[tuple[Any, Any]]:
    """The k-th source index and share of every target, for each k: sums are taken in this order."""
    scale = 1 / (to / size)
    rows: list[list[tuple[int, float]]] = []
    for target in range(to):
        begin, end = target * scale, target * scale + scale
        cell = min(scale, size - begin)
        last = min(int(np.floor(end)), size - 1)
        first = min(int(np.ceil(begin)), last)
        row = [(first - 1, (first - begin) / cell)] if first - begin > 1e-3 else []
        row += [(source, 1 / cell) for source in range(first, last)]
        row += [(last, min(end - last, 1.0, cell) / cell)] if end - last > 1e-3 else []
        rows.append(row)
    longest = max(map(len, rows))
    table = np.array([row + [(0, 0.0)] * (longest - len(row)) for row in rows])  # (to, taps, 2)
    return [(table[:, k, 0].astype(np.int64), table[:, k, 1].astype(np.float32)) for k in range(longest)]


def interpolate(frame: Any, h: int, w: int) -> Any:
    """Bilinear, in 11 bits of fraction."""
    near, far, part = line_taps(frame.shape[1], w, hold_border=True)
    lines = frame.astype(np.int64)  # (H, W, C)
    lines = lines[:, near] * part[0][:, None] + lines[:, far] * part[1][:, None]  # (H, w, C)
    near, far, part = line_taps(frame.shape[0], h, hold_border=False)
    upper = (part[0][:, None, None] * (lines[near] >> 4)) >> 16
    lower = (part[1][:, None, None] * (lines[far] >> 4)) >> 16
    return ((upper + lower + 2) >> 2).astype(np.uint8)


def line_taps(size: int, to: int, hold_border: bool) -> tuple[Any, Any, Any]:
    """Two neighbours of every target, and their weights in 1/2048."""
    place = ((np.arange(to) + 0.5) * (1 / (to / size)) - 0.5).astype(np.float32)
    first = np.floor(place).astype(np.int64)
    part = place - first.astype(np.float32)
    if hold_border:
        part[(first < 0) | (first >= size - 1)] = 0
    weights = np.rint(np.stack([1 - part, part]) * np.float32(2048)).astype(np.int64)
    return np.clip(first, 0, size - 1), np.clip(first + 1, 0, size - 1), weights


def read_image(path: Path) -> Any:
    """(H, W, 3) RGB or (H, W, 1) u8 of a PNG with 8 bits and no interlacing."""
    data, place, packed = path.read_bytes(), len(SIGNATURE), b""
    if data[:place] != SIGNATURE:
        raise SystemExit(f"{path}: expected a PNG")
    while place < len(data):
        (size,), kind = struct.unpack_from(">I", data, place), data[place + 4 : place + 8]
        body = data[place + 8 : place + 8 + size]
        if kind == b"IHDR":
            width, height, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", body)
        packed += body if kind == b"IDAT" else b""
        place += 12 + size
    if bits != 8 or colours not in (0, 2) or interlaced:
        raise SystemExit(f"{path}: expected 8-bit grey or RGB, not interlaced")
    channels = {0: 1, 2: 3}[colours]
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(height, 1 + width * channels)
    pixels = np.zeros((height + 1, width + 1, channels), np.uint8)  # with the zeros that filters see at the borders
    for y, line in enumerate(lines):
        pixels[y + 1, 1:] = unfilter(int(line[0]), line[1:].reshape(width, channels), pixels[y])
    return pixels[1:, 1:]


def unfilter(kind: int, line: Any, above: Any) -> Any:
    """One line of a PNG (width, channels); `above` has one pixel more at its left."""
    if kind == 0:
        return line
    if kind == 1:
        return np.cumsum(line, axis=0, dtype=np.uint8)
    if kind == 2:
        return line + above[1:]
    made, left = np.zeros_like(line), [0] * line.shape[1]
    for x, steps in enumerate(line.tolist()):
        for c, step in enumerate(steps):
            a, b, d = left[c], int(above[x + 1, c]), int(above[x, c])
            near = min((abs(b - d), 0, a), (abs(a - d), 1, b), (abs(a + b - 2 * d), 2, d))[2]
            left[c] = (step + ((a + b) // 2 if kind == 3 else near)) & 0xFF
        made[x] = left
    return made


def write_mask(path: Path, mask: Any) -> None:
    """(H, W) u8 -> PNG."""
    lines = np.pad(mask, ((0, 0), (1, 0))).tobytes()  # filter 0 in front of every line
    header = struct.pack(">IIBBBBB", mask.shape[1], mask.shape[0], 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    packed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    path.write_bytes(SIGNATURE + b"".join(packed))


def write_ppm(path: Path, image: Any) -> None:
    """(H, W, 3) RGB or (H, W, 1) -> PPM or PGM."""
    head = f"P{6 if image.shape[2] == 3 else 5}\n{image.shape[1]} {image.shape[0]}\n255\n"
    path.write_bytes(head.encode() + image.tobytes())


def in_order(image: Any, spec: dict[str, Any]) -> Any:
    """A picture in the colours that the model takes. Grey as OpenCV computes it."""
    if image.shape[2] == 1 and spec["channels"] == 3:
        return np.repeat(image, 3, axis=2)
    if image.shape[2] == 3 and spec["color_order"] == "GRAY":
        return ((image.astype(np.int64) @ [9798, 19235, 3735] + 16384) >> 15).astype(np.uint8)[..., None]
    return np.ascontiguousarray(image[..., ::-1]) if spec["color_order"] == "BGR" else image


def segment_with(program: str, frame: Path) -> Any:
    """The mask that a built C++ program gives."""
    with tempfile.TemporaryDirectory() as room:
        ppm, pgm = Path(room) / "frame.ppm", Path(room) / "mask.pgm"
        write_ppm(ppm, read_image(frame))
        subprocess.run([program, str(BUNDLE), str(ppm), str(pgm)], check=True)
        size = [int(word) for word in pgm.read_bytes().split(b"\n", 3)[1].split()]
        return np.frombuffer(pgm.read_bytes()[-size[0] * size[1] :], np.uint8).reshape(size[1], size[0])


def check(program: str | None) -> int:
    """0 where every golden frame's mask is the reference's."""
    worst = 1.0
    segmenter = None if program else Segmenter()
    for golden in json.loads((BUNDLE / "manifest.json").read_text(encoding="utf-8"))["golden"]:
        path = BUNDLE / golden["frame"]
        if segmenter is None:
            mask = segment_with(str(program), path)
        else:
            mask = segmenter(in_order(read_image(path), segmenter.spec))
        same = float((mask == read_image(BUNDLE / golden["mask"])[..., 0]).mean())
        worst = min(worst, same)
        print(f"{golden['frame']}: {100 * same:.3f} % of the pixels as the reference")
    return 0 if worst >= AGREEMENT else 1


def main(words: list[str]) -> int:
    """What the module says."""
    if words[:1] == ["--check"]:
        return check(words[1] if len(words) > 1 else None)
    if words[:1] == ["--ppm"] and len(words) == 3:
        write_ppm(Path(words[2]), read_image(Path(words[1])))
        return 0
    if len(words) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    segmenter = Segmenter()
    write_mask(Path(words[1]), segmenter(in_order(read_image(Path(words[0])), segmenter.spec)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
