"""Overlap tiles: exact within the receptive field, bounded in memory, from and to files."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from command_line import Call
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from small_road import Road

from edge_unet.core.errors import DataError, UsageError
from edge_unet.frames import read_frame, read_mask, write_png
from edge_unet.segment.large import images_of, open_image, segment_large
from edge_unet.segment.progress import tile_progress
from edge_unet.segment.segmenter import Segmenter
from edge_unet.segment.tiles import Tiling, grid_of, tiled_logits, tiled_rows

RADIUS = 3


def box_filter(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A network with a receptive field of radius 3, zero-padded, on a grid of 1: floats that do not round nicely."""
    real = pixels[0].astype(np.float64).sum(axis=2) / 7
    return cv2.boxFilter(real, -1, (7, 7), borderType=cv2.BORDER_CONSTANT)[None].astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4), st.sampled_from([0.25, 0.5, 0.75]))
def test_tiles_are_one_pass_to_the_last_bit(seed: int, tall: int, wide: int, overlap: float) -> None:
    frame = np.random.default_rng(seed).integers(0, 256, (32 * tall, 32 * wide, 3)).astype(np.uint8)
    tiled = tiled_logits(frame, 32, 32, overlap, box_filter, margin=RADIUS)
    assert np.array_equal(tiled, box_filter(frame[None]))


def test_without_the_margin_they_are_not() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    whole = box_filter(frame[None])
    assert not np.array_equal(tiled_logits(frame, 32, 32, 0.25, box_filter, margin=RADIUS - 1), whole)
    assert not np.array_equal(tiled_logits(frame, 32, 32, 0.0, box_filter), whole)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(8, 300), st.floats(0, 0.95))
def test_every_pixel_counts_and_tiles_lie_on_the_grid(length: int, tile: int, overlap: float) -> None:
    plan = Tiling.plan(length, tile, overlap)
    assert plan.total().min() >= 1
    assert plan.total().shape == (plan.length,)
    grid = grid_of(tile)
    assert all(start % grid == 0 for start in plan.starts)
    assert length <= plan.length < max(tile, length + grid) + 1
    assert max(plan.weights(n).max() for n in range(len(plan.starts))) <= 256


@pytest.mark.parametrize(("tile", "grid"), [(256, 32), (64, 32), (32, 16), (48, 16), (352, 32), (7, 1), (2, 1), (1, 1)])
def test_the_grid_of_a_tile(tile: int, grid: int) -> None:
    assert grid_of(tile) == grid


def test_a_margin_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="a margin of 17 pixels does not fit twice into an overlap of 32"):
        Tiling.plan(256, 64, 0.5, 17)
    assert Tiling.plan(256, 64, 0.5, 16).margin == 16


def test_rows_come_once_in_order_and_memory_does_not_grow_with_the_height() -> None:
    peaks, seen = [], []
    for height in (512, 4096):
        asked: list[int] = []

        def rows(top: int, bottom: int, asked: list[int] = asked) -> NDArray[np.uint8]:
            asked.append(bottom - top)
            return np.zeros((bottom - top, 256, 3), np.uint8)

        tracemalloc.start()
        tops = [(top, len(part[0])) for top, part in tiled_rows(rows, (height, 256), (64, 64), box_filter)]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        seen.append(sum(count for _, count in tops))
        assert all(top + count == after for (top, count), (after, _) in itertools.pairwise(tops))
        assert max(asked) == 64
    assert seen == [512, 4096]
    assert peaks[1] < 1.1 * peaks[0]


@pytest.fixture(scope="module")
def two_sizes(road: Road, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], Path]:
    """The same trained network, exported for 128x128 and for 320x320."""
    from edge_unet.models.checkpoint import load_checkpoint, save_checkpoint
    from edge_unet.pipeline.export import export
    from edge_unet.targets.registry import TARGETS

    room = tmp_path_factory.mktemp("sizes")
    source = load_checkpoint(road.ptq)
    made = {}
    for size in (128, 320):
        recipe = source.info.recipe
        frame = recipe.preprocess.model_copy(update={"height": size, "width": size})
        info = source.info.model_copy(update={"recipe": recipe.model_copy(update={"preprocess": frame})})
        save_checkpoint(room / f"{size}.safetensors", info, source.state)
        for name in ("onnx", "cpu"):
            out = room / f"{name}{size}"
            (bundle,) = export(room / f"{size}.safetensors", (TARGETS[name],), out, say=lambda _: None)
            made[name, size] = bundle.folder
    return made


@pytest.mark.parametrize("target", ["onnx", "cpu"])
def test_a_real_network_tiled_is_one_pass_over_the_whole(two_sizes: dict[tuple[str, int], Path], target: str) -> None:
    """Its receptive field has a radius of at most 32 pixels: two poolings, two 3x3 convolutions a level."""
    rng = np.random.default_rng(4)
    coarse = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    frame = np.asarray(cv2.resize(coarse, (320, 320), interpolation=cv2.INTER_CUBIC), np.uint8)
    with Segmenter.load(two_sizes[target, 320]) as segmenter:
        whole = segmenter._logits(frame[None])
        mask = segmenter(frame).mask
    told: list[tuple[int, int]] = []
    with Segmenter.load(two_sizes[target, 128]) as segmenter:
        tiled = tiled_logits(frame, 128, 128, 0.5, segmenter._logits, margin=32)
        result = segmenter.tiled(frame, overlap=0.5, margin=32, progress=lambda *at: told.append(at))
        plain = tiled_logits(frame, 128, 128, 0.0, segmenter._logits)
    assert 0.05 < mask.mean() < 0.95
    assert np.array_equal(tiled, whole)
    assert np.array_equal(result.mask, mask)
    assert not np.array_equal(plain, whole), "at the edges of tiles the padding shows: what the margin is for"
    assert told == [(n, 16) for n in range(1, 17)]


def test_a_mask_into_a_given_array(bundles: dict[str, Path], tmp_path: Path) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (150, 200, 3)).astype(np.uint8)
    np.save(tmp_path / "frame.npy", frame)
    with Segmenter.load(bundles["onnx"]) as segmenter:
        expected = segmenter.tiled(frame).mask
        out = np.lib.format.open_memmap(tmp_path / "mask.npy", "w+", np.uint8, (150, 200))
        segmenter.tiled(np.load(tmp_path / "frame.npy", mmap_mode="r"), out=out)
        out.flush()
        with pytest.raises(DataError, match=r"out of shape \(2, 2\)"):
            segmenter.tiled(frame, out=np.zeros((2, 2), np.uint8))
        segment_large(segmenter, open_image(tmp_path / "frame.npy"), tmp_path / "again.npy")
    assert np.array_equal(np.load(tmp_path / "mask.npy"), expected)
    assert np.array_equal(np.load(tmp_path / "again.npy"), expected)


def test_the_command_writes_a_mask_for_each_image(bundles: dict[str, Path], call: Call) -> None:
    rng = np.random.default_rng(1)
    Path("images").mkdir()
    frame = rng.integers(0, 256, (130, 170, 3)).astype(np.uint8)
    write_png(Path("images/a.png"), frame)
    np.save("images/b.npy", frame)
    done = call("camera", bundles["onnx"], "--source", "images", "--tiled", "0.5", "--masks", "masks", "--json")
    assert done.code == 0, done.err
    assert [(row["height"], row["width"]) for row in done.value["images"]] == [(130, 170)] * 2
    assert "a.png: 20 of 20 tiles" in done.err
    assert sorted(p.name for p in Path("masks").iterdir()) == ["a.png", "b.npy"]
    assert np.array_equal(read_mask(Path("masks/a.png")), np.load("masks/b.npy"))
    assert np.array_equal(read_frame("images/a.png"), frame)
    again = call("camera", bundles["onnx"], "--source", "images", "--tiled", "0.5", "--masks", "images")
    assert again.code == 2
    assert "would take its place" in again.err
    assert np.array_equal(read_frame("images/a.png"), frame)
    Path("none").mkdir()
    none = call("camera", bundles["onnx"], "--source", "none", "--tiled", "0.5", "--masks", "masks")
    assert (none.code, "none: no images" in none.err) == (2, True)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4)), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), "u1")]
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, array: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=r"x.npy: .*expected \(height, width, 3\) uint8 RGB"):
        open_image(tmp_path / "x.npy")


def test_damaged_and_absent_files(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01")
    with pytest.raises(DataError, match="not a readable"):
        open_image(tmp_path / "x.npy")
    with pytest.raises(UsageError, match="no images"):
        images_of(tmp_path / "absent.png")


def test_progress_in_lines_and_as_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    with tile_progress("x", say=said.append, terminal=False) as tell:
        for done in range(1, 201):
            tell(done, 200)
    assert said == [f"x: {n} of 200 tiles" for n in range(20, 201, 20)]
    with tile_progress("bar", say=said.append, terminal=True) as tell:
        tell(200, 200)
    assert "200/200" in capsys.readouterr().err
    assert len(said) == 10
