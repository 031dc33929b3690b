"""Golden frames read and compared without an image library, and frames timed by turns."""

from __future__ import annotations

import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_unet.frames import write_png as write_frame
from edge_unet.targets.tensorrt.kit import golden, latency
from edge_unet.targets.tensorrt.kit.spec import KitError, KitSpec

# --- golden frames --------------------------------------------------------------------------------------------------


def filtered_png(path: Path, image: NDArray[np.uint8]) -> None:
    """A PNG whose rows take the five filters in turn (PNG specification, section 9)."""
    height, width, channels = image.shape
    rows = image.reshape(height, -1).astype(int)
    padded = np.pad(rows, ((1, 0), (channels, 0)))
    left, up, corner = padded[1:, :-channels], padded[:-1, channels:], padded[:-1, :-channels]
    base = left + up - corner
    nearest = np.argmin([abs(base - left), abs(base - up), abs(base - corner)], axis=0)
    guesses = [0 * rows, left, up, (left + up) // 2, np.choose(nearest, [left, up, corner])]
    kinds = np.arange(height) % 5
    coded = np.stack([(rows[y] - guesses[k][y]) & 255 for y, k in enumerate(kinds)]).astype(np.uint8)
    raw = np.concatenate((kinds[:, None].astype(np.uint8), coded), axis=1).tobytes()
    colour = 2 if channels == 3 else 0
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, colour, 0, 0, 0])
    data = zlib.compress(raw)
    chunks = ((b"IHDR", header), (b"IDAT", data[:50]), (b"IDAT", data[50:]), (b"IEND", b""))
    body = b"".join(len(d).to_bytes(4, "big") + k + d + zlib.crc32(k + d).to_bytes(4, "big") for k, d in chunks)
    path.write_bytes(golden.SIGNATURE + body)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_png_reader_knows_every_filter(tmp_path: Path, channels: int) -> None:
    image = np.random.default_rng(3).integers(0, 256, (15, 9, channels), np.uint8)
    filtered_png(tmp_path / "x.png", image)
    theirs = cv2.imread(str(tmp_path / "x.png"), cv2.IMREAD_UNCHANGED)
    assert theirs is not None
    assert np.array_equal(theirs.reshape(image.shape)[..., ::-1], image)
    assert np.array_equal(golden.read_png(tmp_path / "x.png"), image)


def test_png_round_trips_with_opencv(tmp_path: Path, frames_u8: NDArray[np.uint8]) -> None:
    write_frame(tmp_path / "frame.png", frames_u8[0])
    assert np.array_equal(golden.read_png(tmp_path / "frame.png"), frames_u8[0])
    mask = (frames_u8[0, ..., 0] > 100).astype(np.uint8)
    golden.write_png(tmp_path / "mask.png", mask)
    assert np.array_equal(cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED), mask)


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "sixteen"])
def test_other_files_are_refused(tmp_path: Path, frames_u8: NDArray[np.uint8], damage: str) -> None:
    path = tmp_path / "x.png"
    write_frame(path, frames_u8[0])
    if damage == "sixteen":
        cv2.imwrite(str(path), frames_u8[0].astype(np.uint16))
    else:
        raw = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"not a picture", "cut": raw[: len(raw) // 2]}[damage])
    with pytest.raises(KitError, match="expected an 8-bit grey or RGB PNG") as caught:
        golden.read_png(path)
    assert caught.value.exit_code == 2


def test_a_frame_of_another_size_is_refused(tmp_path: Path, spec: KitSpec) -> None:
    write_frame(tmp_path / "x.png", np.zeros((32, 64, 3), np.uint8))
    with pytest.raises(KitError, match=r"expected \(H, W, C\) \(64, 64, 3\), received \(32, 64, 3\)"):
        golden.frame_pixels(tmp_path / "x.png", spec)


def test_pixels_within_half_a_step_are_counted_apart() -> None:
    logits = np.array([[[[0.5, 0.03], [-0.5, -0.04]]]], np.float32)
    found = golden.compare(logits, np.array([[1, 1], [1, 1]], np.uint8), 1 / 16)
    assert (found.pixels, found.differing, found.near) == (4, 3, 1)
    assert found.ratio == pytest.approx(0.5)


def test_near_classes_are_within_one_step() -> None:
    logits = np.array([[[[1.0, 1.0]], [[1.05, 1.2]], [[-3.0, -3.0]]]], np.float32)  # (1, 3, 1, 2)
    found = golden.compare(logits, np.array([[0, 0]], np.uint8), 1 / 16)
    assert (found.differing, found.near) == (2, 1)


def test_the_feed_is_the_networks_input(spec: KitSpec, frames_u8: NDArray[np.uint8]) -> None:
    fed = golden.feed(frames_u8[0], spec)
    assert fed.shape == (1, 3, 64, 64)
    assert np.array_equal(fed[0, 2] * 64 + 128, frames_u8[0, ..., 2])


# --- latency --------------------------------------------------------------------------------------------------------


def test_engines_are_timed_by_turns_until_the_run_count() -> None:
    now, order = [0], []

    def engine(name: str, cost_ns: int) -> latency.Sample:
        now[0] += cost_ns
        order.append(name)
        return latency.Sample(1, cost_ns - 2, 1, cost_ns)

    protocol = latency.Protocol(warmup_runs=3, warmup_ns=50, runs=40, limit_ns=10**9)
    runs = {"int8": lambda: engine("int8", 10), "fp16": lambda: engine("fp16", 30)}
    samples = latency.measure(runs, protocol, clock=lambda: now[0])
    assert {name: len(taken) for name, taken in samples.items()} == {"int8": 40, "fp16": 40}
    assert order[:8] == ["int8"] * 5 + ["fp16"] * 3  # 5 x 10 ns reach 50 ns; three runs at least
    assert order[8:40] == ["int8"] * 16 + ["fp16"] * 16
    assert latency.summary(samples["fp16"])["total_ns"] == {"p50": 30, "p90": 30, "p99": 30}


def test_timing_stops_at_the_limit() -> None:
    now = [0]

    def engine() -> latency.Sample:
        now[0] += 100
        return latency.Sample(0, 100, 0, 100)

    protocol = latency.Protocol(warmup_runs=1, warmup_ns=0, runs=10**6, limit_ns=2000)
    assert len(latency.measure({"int8": engine}, protocol, clock=lambda: now[0])["int8"]) == 32  # two blocks of 16


def test_quantiles_are_samples() -> None:
    assert [latency.quantile_ns(list(range(1, 11)), q) for q in (0.5, 0.9, 0.99)] == [5, 9, 10]
    assert latency.quantile_ns([7], 0.5) == 7
