"""integration/python/segment.py: OpenCV's pixels and the Segmenter's masks, with numpy and the runtime only."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from integration_bundles import python_mask, rewritten
from small_road import disc

from edge_unet.core.bundle import open_bundle
from edge_unet.core.spec import PreprocessSpec
from edge_unet.frames import read_frame, read_mask, resize_frame, restore_mask, write_png
from edge_unet.segment.segmenter import Segmenter
from edge_unet.targets.integration.write import SOURCES


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("integration_sample", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sample() -> ModuleType:
    return load(SOURCES / "python/segment.py")


SIZES = [
    (96, 160), (192, 320), (288, 320), (480, 800), (97, 161), (40, 50), (200, 100), (50, 900), (481, 641), (1, 1),
    (95, 400), (96, 400), (720, 1280),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("order", ["RGB", "GRAY"])
def test_its_resize_is_the_toolkits_byte_for_byte(
    sample: ModuleType, size: tuple[int, int], resize: str, order: str
) -> None:
    if int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip(f"OpenCV {cv2.__version__}: nearest-exact adds up its steps since OpenCV 5 only")
    spec = PreprocessSpec.model_validate(
        {"height": 96, "width": 160, "channels": 3 if order == "RGB" else 1, "color_order": order, "resize": resize}
    )
    rng = np.random.default_rng(size)
    frame = rng.integers(0, 256, (*size, spec.channels), np.uint8)
    values = spec.model_dump(mode="json")
    assert np.array_equal(sample.resize_frame(frame, values), resize_frame(frame, spec))
    mask = rng.integers(0, 5, (96, 160), np.uint8)
    assert np.array_equal(sample.restore_mask(mask, *size, values), restore_mask(mask, *size, spec))


@pytest.mark.parametrize("kind", ["NONE", "SUB", "UP", "AVG", "PAETH"])
@pytest.mark.parametrize("channels", [1, 3])
def test_it_reads_pngs_with_every_filter(sample: ModuleType, tmp_path: Path, kind: str, channels: int) -> None:
    picture = np.random.default_rng(3).integers(0, 256, (13, 17, channels), np.uint8)
    options = [cv2.IMWRITE_PNG_FILTER, getattr(cv2, f"IMWRITE_PNG_FILTER_{kind}"), cv2.IMWRITE_PNG_COMPRESSION, 6]
    done, data = cv2.imencode(".png", picture[..., ::-1], options)
    assert done
    (tmp_path / "a.png").write_bytes(data.tobytes())
    assert np.array_equal(sample.read_image(tmp_path / "a.png"), picture)


def test_it_writes_masks_that_opencv_reads(sample: ModuleType, tmp_path: Path) -> None:
    mask = np.random.default_rng(3).integers(0, 256, (13, 17), np.uint8)
    sample.write_mask(tmp_path / "m.png", mask)
    assert np.array_equal(read_mask(tmp_path / "m.png"), mask)


@pytest.mark.parametrize("order", ["RGB", "BGR", "GRAY"])
def test_it_orders_colours_as_the_toolkit(sample: ModuleType, tmp_path: Path, order: str) -> None:
    rng = np.random.default_rng(5)
    values = {"channels": 1 if order == "GRAY" else 3, "color_order": order}
    for channels in (1, 3):
        picture = rng.integers(0, 256, (64, 64, channels), np.uint8)
        write_png(tmp_path / "p.png", picture)
        expected = read_frame(tmp_path / "p.png", order)  # type: ignore[arg-type]
        assert np.array_equal(sample.in_order(picture, values), expected)


@pytest.mark.parametrize("name", ["cpu", "android", "embedded-linux", "onnx"])
def test_its_mask_is_the_segmenters(bundles: dict[str, Path], tmp_path: Path, name: str) -> None:
    frame, _ = disc(np.random.default_rng(11), 100, 230)
    with Segmenter.load(bundles[name]) as segmenter:
        expected = segmenter(frame).mask
    assert 0 < expected.mean() < 1
    assert np.array_equal(python_mask(bundles[name], frame, tmp_path), expected)
    assert open_bundle(bundles[name]).manifest.artifact.target == name  # running it changed nothing that is hashed


def test_its_mask_follows_the_manifest(bundles: dict[str, Path], tmp_path: Path) -> None:
    other = rewritten(bundles["cpu"], tmp_path / "bundle", resize="letterbox", color_order="BGR", pad_value=7)
    frame, _ = disc(np.random.default_rng(12), 100, 230)
    with Segmenter.load(other.folder) as segmenter:
        expected = segmenter(np.ascontiguousarray(frame[..., ::-1])).mask
    with Segmenter.load(bundles["cpu"]) as plain:
        assert not np.array_equal(plain(frame).mask, expected)
    assert np.array_equal(python_mask(other.folder, frame, tmp_path), expected)


def check(bundle: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(bundle / "integration/python/segment.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_check_holds_the_golden_frames_against_the_reference(bundles: dict[str, Path], tmp_path: Path) -> None:
    done = check(bundles["cpu"])
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("% of the pixels as the reference") == 4
    other = rewritten(bundles["cpu"], tmp_path / "bundle", color_order="BGR")
    assert check(other.folder).returncode == 1


@pytest.fixture
def opened(bundles: dict[str, Path], tmp_path: Path) -> Callable[[str], None]:
    copy = rewritten(bundles["onnx"], tmp_path / "copy").folder

    def change(name: str) -> None:
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("changed")
        open_bundle(copy)

    return change


def test_what_lies_beside_the_sources_does_not_change_a_bundle(opened: Callable[[str], None]) -> None:
    opened("integration/python/__pycache__/segment.pyc")
    opened("build-cpp/segment")
    with pytest.raises(Exception, match="sha256 expected"):
        opened("integration/python/segment.py")


def test_the_manifest_lists_every_source(bundles: dict[str, Path]) -> None:
    for folder in bundles.values():
        listed = {name for name in json.loads((folder / "manifest.json").read_text())["files"] if "integration" in name}
        there = {p.relative_to(folder).as_posix() for p in (folder / "integration").rglob("*.*") if p.is_file()}
        assert {name for name in there if "__pycache__" not in name} <= listed
