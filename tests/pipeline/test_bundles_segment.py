"""Segmenter.load on real bundles: the same call, and the reference's mask, on every runtime that executes here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from small_road import disc

from edge_unet.core.bundle import open_bundle
from edge_unet.core.errors import ArtifactError, DataError
from edge_unet.core.spec import PreprocessSpec
from edge_unet.frames import resize_frame, restore_mask
from edge_unet.measure.masks import predictor
from edge_unet.segment.segmenter import Segmenter
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.registry import TARGETS

HERE = [name for name, target in TARGETS.items() if target.executes_here]


def pictures(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    frame, mask = disc(np.random.default_rng(7), height, width)
    return frame, mask


def reference_mask(bundle: Path, frame: NDArray[np.uint8], preprocess: PreprocessSpec) -> NDArray[np.uint8]:
    with open_reference(open_bundle(bundle).canonical) as reference:
        small = predictor(reference, preprocess)(resize_frame(frame, preprocess))
    return restore_mask(small, frame.shape[0], frame.shape[1], preprocess)


def with_letterbox(bundle: Path, folder: Path) -> Path:
    """A copy of a bundle whose frames are letterboxed."""
    shutil.copytree(bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["preprocess"]["resize"] = "letterbox"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def dice(mask: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    return float(2 * (mask & (truth > 0)).sum() / (mask.sum() + (truth > 0).sum()))


@pytest.mark.parametrize("size", [(64, 64), (120, 160), (40, 90)], ids=str)
@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("name", HERE)
def test_the_mask_is_the_references(
    bundles: dict[str, Path], tmp_path: Path, name: str, resize: str, size: tuple[int, int]
) -> None:
    bundle = bundles[name] if resize == "stretch" else with_letterbox(bundles[name], tmp_path / "bundle")
    frame, truth = pictures(*size)
    with Segmenter.load(bundle) as segmenter:
        result = segmenter(frame, probabilities=True)
        assert segmenter.preprocess.resize == resize
        expected = reference_mask(bundle, frame, segmenter.preprocess)
    assert result.mask.shape == size
    assert (result.mask == expected).mean() >= 0.998
    assert dice(result.mask, truth) > 0.85
    assert result.classes.names == ("background", "foreground")
    assert result.probabilities is not None
    assert result.probabilities.shape == (2, 64, 64)
    np.testing.assert_allclose(result.probabilities.sum(axis=0), 1, atol=1e-5)
    assert min(result.timing.preprocess_ns, result.timing.infer_ns, result.timing.postprocess_ns) > 0


@pytest.mark.parametrize("name", ["ios", "jetson"])
def test_where_nothing_executes_the_stand_in_gives_the_mask_too(bundles: dict[str, Path], name: str) -> None:
    frame, truth = pictures(64, 64)
    with Segmenter.load(bundles[name]) as segmenter:
        assert dice(segmenter(frame).mask, truth) > 0.85
        assert "not" in segmenter.session.runtime


@pytest.mark.parametrize("name", HERE)
def test_tiles_segment_a_large_frame_at_its_own_scale(bundles: dict[str, Path], name: str) -> None:
    """Four frames of the training size side by side: each disc is found as if it came alone."""
    parts = [disc(np.random.default_rng(seed)) for seed in range(4)]
    frame = np.vstack([np.hstack([parts[0][0], parts[1][0]]), np.hstack([parts[2][0], parts[3][0]])])
    truth = np.vstack([np.hstack([parts[0][1], parts[1][1]]), np.hstack([parts[2][1], parts[3][1]])])
    with Segmenter.load(bundles[name]) as segmenter:
        tiled = segmenter.tiled(frame, overlap=0.5)
        one = segmenter.tiled(parts[0][0])
        assert np.array_equal(one.mask, segmenter(parts[0][0]).mask)
    assert tiled.mask.shape == frame.shape[:2]
    assert dice(tiled.mask, truth) > 0.85


def test_wrong_frames_and_damaged_bundles(bundles: dict[str, Path], tmp_path: Path) -> None:
    with Segmenter.load(bundles["onnx"]) as segmenter:
        for wrong in (np.zeros((64, 64, 3), np.float32), np.zeros((64, 64), np.uint8), np.zeros((64, 64, 4), np.uint8)):
            with pytest.raises(DataError, match="uint8"):
                segmenter(wrong)  # type: ignore[arg-type]
    copy = tmp_path / "bundle"
    shutil.copytree(bundles["onnx"], copy)
    (copy / "golden/00.png").unlink()
    with pytest.raises(ArtifactError, match="golden"):
        Segmenter.load(copy)
