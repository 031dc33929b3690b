"""Stage times against a budget, frames read with their times, still reports, and drawing that stays in the picture."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_unet.core.errors import DataError, UsageError
from edge_unet.frames import write_png
from edge_unet.segment import annotate
from edge_unet.segment.budget import StageTimes
from edge_unet.segment.camera.capture import Capture
from edge_unet.segment.camera.reading import read_frames
from edge_unet.segment.camera.sources import SourceUri, open_source
from edge_unet.segment.still import Still, StillReport, write_report


def test_stages_add_up_within_a_frame_and_shares_within_a_run() -> None:
    times = StageTimes({"model": 50.0, "draw": 0.001, "never": 1.0})
    for _ in range(3):
        with times.stage("model"):
            time.sleep(0.004)
        with times.stage("model"):
            time.sleep(0.004)
        with times.stage("draw"):
            sum(range(20000))
        assert times.end_frame() > 8_000_000
    row = times.row()
    model, draw, never = (row["stages"][name] for name in ("model", "draw", "never"))
    assert row["frames"] == 3
    assert model["p50_ms"] >= 8
    assert model["cpu_p50_ms"] < 4, "sleeping is not computing"
    assert 0 < draw["cpu_p50_ms"] <= draw["p90_ms"]
    assert model["share"] + draw["share"] == pytest.approx(1, abs=0.001)
    assert (never["p50_ms"], never["cpu_p50_ms"], never["share"]) == (None, None, None)
    assert row["total"]["budget_ms"] == pytest.approx(51.001)
    over = [line.split()[0] for line in times.lines() if "OVER BUDGET" in line]
    assert "draw" in over
    with pytest.raises(UsageError, match="did you mean 'model'"), times.stage("modle"):
        pass


def capture_of(folder: Path) -> Capture:
    return Capture(lambda: open_source(SourceUri.parse(str(folder))))


def test_frames_have_numbers_and_times(tmp_path: Path) -> None:
    for n in range(4):
        write_png(tmp_path / f"{n}.png", np.full((8, 10, 3), n, np.uint8))
    with capture_of(tmp_path) as capture:
        frames = list(read_frames(capture, 3))
    assert [(f.index, f.time_s, int(f.pixels[0, 0, 0])) for f in frames] == [(0, 0.0, 0), (1, 0.04, 1), (2, 0.08, 2)]


def test_a_change_of_size_is_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", np.zeros((8, 10, 3), np.uint8))
    write_png(tmp_path / "b.png", np.zeros((9, 10, 3), np.uint8))
    with pytest.raises(DataError, match="frame 1 is 10x9, the ones before it 10x8"), capture_of(tmp_path) as capture:
        list(read_frames(capture))


def picture(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 120, np.uint8)


def report(stills: int) -> StillReport:
    shown = tuple(Still(f"Region {n} <b>", picture(), (("area", f"{n} & more"),)) for n in range(stills))
    return StillReport("Run", "Research use only", (("frames", "3"),), shown)


def test_a_page_escapes_and_holds_its_pictures(tmp_path: Path) -> None:
    path = tmp_path / "still.html"
    write_report(path, report(2))
    page = path.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 2
    assert "Region 1 &lt;b&gt;" in page
    assert "1 &amp; more" in page
    assert "<b>" not in page
    write_report(path, report(0))
    assert "Nothing was found" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("stills", [0, 1, 2, 3])
def test_a_sheet_has_two_stills_a_row(tmp_path: Path, stills: int) -> None:
    path = tmp_path / "still.png"
    write_report(path, report(stills))
    sheet = cv2.imread(str(path))
    head, cell = 24 * 3 + 14, (24 + 14) + 480 + (24 + 14)
    assert sheet.shape == (head + cell * -(-stills // 2), 1280, 3)
    with pytest.raises(UsageError, match=r"ends in .html or .png"):
        write_report(tmp_path / "still.txt", report(1))


def test_text_and_paths_stay_inside_and_are_legible_on_white() -> None:
    white = np.full((100, 140, 3), 255, np.uint8)
    annotate.draw_panel(white, [("a long line of text that does not fit", annotate.WHITE)], "bottom right")
    annotate.draw_label(white, "label", (-50, -50))
    annotate.draw_cross(white, (500, 500), annotate.RED)
    annotate.draw_path(white, np.array([[-9, -9], [300, 300]], np.int32), annotate.GREEN, closed=False)
    plate = white[-8:, -60:]
    assert np.median(plate) < 80, "a dark plate under light text"


def test_a_small_picture_is_enlarged_and_a_large_one_copied() -> None:
    small, factor = annotate.enlarged(picture(256, 256))
    assert (small.shape, factor) == ((512, 512, 3), 2)
    original = picture(540, 960)
    large, factor = annotate.enlarged(original)
    assert (large.shape, factor) == (original.shape, 1)
    assert large is not original
    assert annotate.moved(np.array([[0, 3]], np.int32), 2).tolist() == [[1, 7]]


def test_a_tint_mixes_only_the_mask() -> None:
    shown, mask = picture(), np.zeros((60, 80), np.uint8)
    mask[10:20, 10:20] = 1
    annotate.tint(shown, mask, (220, 120, 20), 0.5)
    assert shown[15, 15].tolist() == [170, 120, 70]
    assert shown[25, 15].tolist() == [120, 120, 120]
    annotate.tint(shown, np.zeros_like(mask), (0, 0, 0), 1.0)
    assert shown[0, 0].tolist() == [120, 120, 120]
