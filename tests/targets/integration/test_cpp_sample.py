"""integration/cpp: built from a clean tree with one command, its masks are the Segmenter's, bit for bit."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from integration_bundles import python_mask, read_netpbm, rewritten, segmented, write_ppm
from numpy.typing import NDArray

from edge_unet.core.bundle import open_bundle
from edge_unet.core.spec import PreprocessSpec
from edge_unet.data.scenes import SceneDataset
from edge_unet.frames import read_frame, resize_frame, restore_mask
from edge_unet.pipeline.export import export, resolve_targets
from edge_unet.segment.segmenter import Segmenter
from edge_unet.targets.integration.write import SOURCES

Bundles = Callable[[str], Path]
Built = Callable[[Path], Path]
HERE = Path(__file__).parent
SIZES = [
    (96, 160), (192, 320), (288, 320), (480, 800), (97, 161), (40, 50), (200, 100), (50, 900), (481, 641), (1, 1),
    (95, 400), (96, 400), (720, 1280), (192, 480), (500, 96),
]  # fmt: skip


@pytest.fixture(scope="module")
def resize_check(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """resize_check.cpp, compiled with the options of CMakeLists.txt."""
    if shutil.which("g++") is None:
        pytest.skip("g++ not installed (apt install g++)")
    program = tmp_path_factory.mktemp("resize") / "resize_check"
    options = ["-std=c++17", "-O3", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror"]
    command = ["g++", *options, "-I", str(SOURCES / "cpp"), str(HERE / "resize_check.cpp"), "-o", str(program)]
    subprocess.run(command, check=True, timeout=300)
    return program


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("order", ["RGB", "BGR", "GRAY"])
def test_its_resize_is_the_toolkits_byte_for_byte(resize_check: Path, tmp_path: Path, order: str, resize: str) -> None:
    if int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip(f"OpenCV {cv2.__version__}: nearest-exact adds up its steps since OpenCV 5 only")
    spec = PreprocessSpec.model_validate(
        {
            "height": 96, "width": 160, "channels": 1 if order == "GRAY" else 3, "color_order": order,
            "resize": resize, "pad_value": 9,
        }
    )  # fmt: skip
    rng = np.random.default_rng(2)
    frames = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    masks = [rng.integers(0, 5, (96, 160, 1), np.uint8) for _ in SIZES]
    for name, images in (("frames", frames), ("masks", masks)):
        files = [write_ppm(tmp_path / "one", image).read_bytes() for image in images]
        (tmp_path / name).write_bytes(b"".join(files))
    places = [str(tmp_path / name) for name in ("frames", "inputs", "masks", "restored")]
    subprocess.run([str(resize_check), "96", "160", order, resize, "9", *places], check=True, timeout=60)
    inputs, restored = (tmp_path / "inputs").read_bytes(), (tmp_path / "restored").read_bytes()
    for size, frame, mask in zip(SIZES, frames, masks, strict=True):
        cv2.imwrite(str(tmp_path / "f.png"), frame[..., ::-1])
        expected = resize_frame(read_frame(tmp_path / "f.png", order), spec)  # type: ignore[arg-type]
        received, inputs = read_netpbm(inputs)
        assert np.array_equal(received, expected), size
        back, restored = read_netpbm(restored)
        assert np.array_equal(back[..., 0], restore_mask(mask[..., 0], *size, spec)), size
    assert inputs == restored == b""


def scene(height: int, width: int) -> NDArray[np.uint8]:
    """A procedural endoscopy frame of another size than the model's."""
    return np.ascontiguousarray(SceneDataset("endoscopy", 1, 77, height, width).load(0)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cpu-int8", "embedded-linux-int8", "cpu-fp32", "android-fp32"])
def test_its_masks_are_the_segmenters(shipped: Bundles, built: Built, tmp_path: Path, name: str) -> None:
    bundle = shipped(name)
    program = built(bundle) / "segment"
    frames = [read_frame(bundle / golden.frame) for golden in open_bundle(bundle).manifest.golden]
    frames += [scene(480, 640), scene(200, 300), scene(150, 400)]
    shares = []
    with Segmenter.load(bundle) as segmenter:
        for frame in frames:
            expected = segmenter(frame).mask
            assert np.array_equal(segmented(program, bundle, frame, tmp_path), expected), frame.shape
            shares.append(expected.mean())
    assert max(shares) > 0.01  # there is something in the masks
    assert np.array_equal(python_mask(bundle, frames[-1], tmp_path), expected)
    open_bundle(bundle)  # building changed nothing that is hashed


@pytest.fixture(scope="module", params=["cpu", "android"])
def three_classes(
    request: pytest.FixtureRequest, tiny_canonical_multiclass: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A letterboxed BGR model of three classes."""
    room = tmp_path_factory.mktemp("three")
    (made,) = export(tiny_canonical_multiclass, resolve_targets(request.param), room, say=lambda _: None)
    other = rewritten(made.folder, room / "letterbox", resize="letterbox", color_order="BGR", pad_value=9)
    return other.folder


@pytest.mark.slow
def test_three_classes_letterboxed_in_another_colour_order(
    three_classes: Path, built: Built, frames_u8: NDArray[np.uint8], tmp_path: Path
) -> None:
    program = built(three_classes) / "segment"
    frame = cv2.resize(frames_u8[0], (150, 90), interpolation=cv2.INTER_LINEAR)
    with Segmenter.load(three_classes) as segmenter:
        expected = segmenter(np.ascontiguousarray(frame[..., ::-1])).mask
    assert len(np.unique(expected)) == 3
    assert np.array_equal(segmented(program, three_classes, frame, tmp_path), expected)


@pytest.mark.slow
def test_repeat_and_bursts_print_latency(shipped: Bundles, built: Built, tmp_path: Path) -> None:
    bundle = shipped("cpu-int8")
    program, frame = built(bundle) / "segment", write_ppm(tmp_path / "frame.ppm", scene(256, 256))
    command = [str(program), str(bundle), str(frame), str(tmp_path / "mask.pgm")]
    done = subprocess.run([*command, "--repeat", "5"], capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout)
    assert found["runs"] == 5
    assert found["threads"] == 1
    assert 0 < found["infer_p50_ns"] < found["total_p50_ns"] <= found["total_p90_ns"]
    done = subprocess.run(
        [*command, "--bursts"], input="3\n2\n", capture_output=True, text=True, check=True, timeout=120
    )
    bursts = [json.loads(line) for line in done.stdout.splitlines()]
    assert [len(burst["infer_ns"]) for burst in bursts] == [len(burst["total_ns"]) for burst in bursts] == [3, 2]
    assert all(0 < i < t for burst in bursts for i, t in zip(burst["infer_ns"], burst["total_ns"], strict=True))


@pytest.mark.slow
def test_camera_overlays_a_stream(shipped: Bundles, built: Built) -> None:
    bundle = shipped("embedded-linux-int8")
    program = built(bundle) / "camera"
    frames = [read_frame(bundle / golden.frame) for golden in open_bundle(bundle).manifest.golden[:3]]
    streams = [cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420) for frame in frames]
    decoded = [cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420) for planes in streams]
    with Segmenter.load(bundle) as segmenter:
        expected = [overlaid(segmenter, frame, segmenter(frame).mask) for frame in frames]
        everywhere = [overlaid(segmenter, frame, np.ones(frame.shape[:2], np.uint8)) for frame in decoded]
    height, width = frames[0].shape[:2]
    stream = b"".join(f"P6\n{width} {height}\n255\n".encode() + frame.tobytes() for frame in frames)
    pictures = overlays(program, bundle, stream)
    assert len(pictures) == 3
    assert all(np.array_equal(a, b) for a, b in zip(pictures, expected, strict=True))
    assert len(overlays(program, bundle, stream, "--frames", "2")) == 2
    head = f"YUV4MPEG2 W{width} H{height} F30:1 Ip A1:1 C420mpeg2\n".encode()
    pictures = overlays(program, bundle, head + b"".join(b"FRAME\n" + planes.tobytes() for planes in streams))
    for picture, frame, mixed in zip(pictures, decoded, everywhere, strict=True):
        off = np.minimum(np.abs(picture.astype(int) - frame), np.abs(picture.astype(int) - mixed))
        assert off.max() <= 1  # OpenCV rounds with more bits; which pixels are overlaid was compared above


def overlaid(segmenter: Segmenter, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Half the frame, half the colour of the class."""
    mixed = ((frame.astype(np.uint16) + np.array(segmenter.classes.palette[1], np.uint16)) // 2).astype(np.uint8)
    return np.where(mask[..., None] == 1, mixed, frame)


def overlays(program: Path, bundle: Path, stream: bytes, *more: str) -> list[NDArray[np.uint8]]:
    done = subprocess.run(
        [str(program), str(bundle), *more], input=stream, capture_output=True, check=True, timeout=120
    )
    pictures, rest = [], done.stdout
    while rest:
        picture, rest = read_netpbm(rest)
        pictures.append(picture)
    last = json.loads([line for line in done.stderr.decode().splitlines() if line.startswith("{")][-1])
    assert last["frames"] == len(pictures)
    assert 0 < last["infer_mean_ms"] < last["total_mean_ms"]
    return pictures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["BUNDLE"], "usage: segment"),
        (["BUNDLE", "nothing.ppm", "m.pgm"], "nothing.ppm: cannot read"),
        (["BUNDLE", "text.ppm", "m.pgm"], "expected PPM"),
        (["BUNDLE", "short.ppm", "m.pgm"], "ends before its last pixel"),
        (["elsewhere", "good.ppm", "m.pgm"], "LiteRT: "),
        (["BUNDLE", "good.ppm", "m.pgm", "--speed"], "unknown option --speed"),
    ],
)
def test_what_it_cannot_read_is_one_line(
    shipped: Bundles, built: Built, tmp_path: Path, words: list[str], said: str
) -> None:
    bundle = shipped("embedded-linux-int8")
    program = built(bundle) / "segment"
    write_ppm(tmp_path / "good.ppm", np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "text.ppm").write_text("hello")
    (tmp_path / "short.ppm").write_bytes(b"P6\n8 8\n255\nabc")
    command = [str(program), *(str(bundle) if word == "BUNDLE" else word for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said in line
