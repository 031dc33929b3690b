"""fp32 checkpoint + frames -> PTQ checkpoint, with each observer and from a calibration set."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_road import Road, quiet, write_pairs

from edge_unet.core.errors import DataError, UsageError
from edge_unet.core.files import sha256_of
from edge_unet.data.calibration_set import build_calibration_set, write_calibration_set
from edge_unet.data.open import open_data
from edge_unet.models.checkpoint import load_checkpoint
from edge_unet.pipeline.evaluate import evaluate
from edge_unet.pipeline.quantize import OBSERVERS, quantize_checkpoint


@pytest.mark.parametrize("observer", OBSERVERS)
def test_each_observer_keeps_dice(road: Road, tmp_path: Path, observer: str) -> None:
    out = tmp_path / "deeper/ptq.safetensors"
    row = quantize_checkpoint(road.fp32, out, road.data, observer, None, say=quiet)
    assert row == {
        "checkpoint": str(out),
        "sha256": sha256_of(out),
        "observer": observer,
        "images": 32,
        "data": "data",
    }
    info = load_checkpoint(out).info
    assert (info.kind, info.parent_sha256) == ("ptq", sha256_of(road.fp32))
    assert info.recipe.quantize.observer == observer
    drop = evaluate(road.fp32, road.data, say=quiet).dice - evaluate(out, road.data, say=quiet).dice
    assert drop <= 0.02


def test_the_same_frames_give_the_same_checkpoint(road: Road, tmp_path: Path) -> None:
    rows = [quantize_checkpoint(road.fp32, tmp_path / name, None, None, None, say=quiet) for name in ("a", "b")]
    assert rows[0]["sha256"] == rows[1]["sha256"] == sha256_of(road.ptq)


def test_a_calibration_set_says_which_frames(road: Road, tmp_path: Path) -> None:
    dataset = open_data(load_checkpoint(road.fp32).info.recipe, "train")
    chosen = build_calibration_set(dataset, "train", name="discs", why="a test", count=33)
    manifest = tmp_path / "set.toml"
    write_calibration_set(chosen, manifest)
    row = quantize_checkpoint(road.fp32, tmp_path / "ptq.safetensors", None, None, manifest, say=quiet)
    assert (row["images"], row["data"]) == (33, "discs")
    assert load_checkpoint(tmp_path / "ptq.safetensors").info.calibration_sha256 == chosen.sha256
    other = write_pairs(tmp_path / "other", 40, 9)
    with pytest.raises(DataError, match="does not fit the data"):
        quantize_checkpoint(road.fp32, tmp_path / "no.safetensors", other, None, manifest, say=quiet)
    assert not (tmp_path / "no.safetensors").exists()


def test_wrong_wishes(road: Road, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    with pytest.raises(UsageError, match="did you mean 'minmax'"):
        quantize_checkpoint(road.fp32, out, None, "minmaks", None, say=quiet)
    with pytest.raises(UsageError, match="fp32"):
        quantize_checkpoint(road.ptq, out, None, None, None, say=quiet)
    with pytest.raises(UsageError, match="calibration needs 32"):
        quantize_checkpoint(road.fp32, out, write_pairs(tmp_path / "few", 6, 3), None, None, say=quiet)
    with pytest.raises(UsageError, match=r"set\.toml"):
        quantize_checkpoint(road.fp32, out, None, None, tmp_path / "set.toml", say=quiet)
    assert not out.exists()
