"""Checkpoint or canonical ONNX -> bundles."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from island_graphs import transformer, write_piece
from small_road import Road, quiet

from edge_unet.core.bundle import Bundle, open_bundle
from edge_unet.core.errors import ArtifactError, GraphError, UsageError
from edge_unet.core.files import sha256_of
from edge_unet.core.protocols import Target
from edge_unet.core.spec import Precision
from edge_unet.frames import read_frame, read_mask
from edge_unet.measure.masks import predictor
from edge_unet.pipeline import export as module
from edge_unet.pipeline.export import export, resolve_targets, write_canonical
from edge_unet.pipeline.frames import GOLDEN
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.registry import TARGETS

ONNX = resolve_targets("onnx")


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with its hash."""
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def export_onnx(model: Path, out: Path) -> Bundle:
    (bundle,) = export(model, ONNX, out, say=quiet)
    return bundle


def test_one_bundle_per_target_all_of_one_graph(road: Road, bundles: dict[str, Path]) -> None:
    opened = {name: open_bundle(folder) for name, folder in bundles.items()}
    assert list(opened) == list(TARGETS)
    parents = {b.manifest.artifact.parent_sha256 for b in opened.values()}
    assert parents == {sha256_of(b.canonical) for b in opened.values()}
    assert len(parents) == 1
    for name, bundle in opened.items():
        manifest = bundle.manifest
        assert bundle.folder.name == f"discs-{name}-int8"
        assert manifest.checkpoint_sha256 == sha256_of(road.ptq)
        assert manifest.census.int8_layers > 0
        assert manifest.licence == "CC0-1.0"
        assert (bundle.folder / "LICENSE.txt").read_text() == "CC0-1.0\n"
        assert "# discs" in (bundle.folder / "MODEL_CARD.md").read_text()
        listed = {entry.name for entry in bundle.folder.iterdir()}
        assert listed == {*(name.split("/")[0] for name in manifest.files), "manifest.json"}


def test_golden_frames_are_what_the_reference_gives(bundles: dict[str, Path]) -> None:
    bundle = open_bundle(bundles["jetson"])
    preprocess = bundle.manifest.preprocess
    assert len(bundle.manifest.golden) == GOLDEN
    seen = []
    with open_reference(bundle.canonical) as reference:
        predict = predictor(reference, preprocess)
        for golden in bundle.manifest.golden:
            frame = read_frame(bundle.folder / golden.frame, preprocess.color_order)
            assert frame.shape == (preprocess.height, preprocess.width, preprocess.channels)
            assert np.array_equal(predict(frame), read_mask(bundle.folder / golden.mask))
            seen.append(frame.tobytes())
    assert len(set(seen)) == GOLDEN


@pytest.mark.parametrize("name", ["onnx", "android", "jetson"])
def test_the_same_checkpoint_gives_the_same_bundle(
    road: Road, bundles: dict[str, Path], tmp_path: Path, name: str
) -> None:
    (again,) = export(road.ptq, resolve_targets(name), tmp_path, say=quiet)
    assert tree(again.folder) == tree(bundles[name])


def test_a_bundle_is_replaced_whole(road: Road, bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / bundles["onnx"].name
    shutil.copytree(bundles["onnx"], folder)
    (folder / "stale.txt").write_text("left by an older version")
    (folder / "model.onnx").write_bytes(b"damaged")
    assert export_onnx(road.ptq, tmp_path).folder == folder
    assert tree(folder) == tree(bundles["onnx"])
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failed_export_leaves_the_old_bundle(
    road: Road, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / bundles["onnx"].name
    shutil.copytree(bundles["onnx"], folder)

    def fail(target: Target, folder: Path, artifact: object) -> None:
        assert any(folder.iterdir())  # the artifact has been written already
        raise GraphError("the disk is full")

    monkeypatch.setattr(module, "census_of", fail)
    with pytest.raises(GraphError, match="disk is full"):
        export(road.ptq, ONNX, tmp_path, say=quiet)
    assert tree(folder) == tree(bundles["onnx"])
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_that_is_no_bundle_is_not_replaced(road: Road, tmp_path: Path) -> None:
    (tmp_path / "discs-onnx-int8").mkdir()
    (tmp_path / "discs-onnx-int8/notes.txt").write_text("precious")
    with pytest.raises(UsageError, match="no bundle"):
        export_onnx(road.ptq, tmp_path)
    assert [p.name for p in tmp_path.rglob("*")] == ["discs-onnx-int8", "notes.txt"]


def test_a_canonical_onnx_is_exported_as_it_stands(bundles: dict[str, Path], tmp_path: Path) -> None:
    source = open_bundle(bundles["cpu"])
    bundle = export_onnx(source.canonical, tmp_path)
    assert bundle.canonical.read_bytes() == source.canonical.read_bytes()
    assert tree(bundle.folder) == tree(bundles["onnx"])


def test_an_fp32_checkpoint_is_refused_with_the_next_step(road: Road, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"edge-unet quantize --ptq .*fp32\.safetensors"):
        export_onnx(road.fp32, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_precision_one_target_lacks_stops_all_before_anything_is_written(road: Road, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="target ios has no fp32; it offers int8, fp16"):
        export(road.ptq, resolve_targets("all"), tmp_path, Precision.FP32, quiet)
    assert list(tmp_path.iterdir()) == []


def test_to_all_a_target_that_cannot_is_left_out_with_its_reason(tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "canonical.onnx", transformer)
    both = (*resolve_targets("mcu"), *ONNX)
    said: list[str] = []
    made = export(canonical, both, tmp_path / "out", say=said.append, leave_out=True)
    assert [b.manifest.artifact.target for b in made] == ["onnx"]
    (line,) = [line for line in said if line.startswith("mcu")]
    assert line.startswith("mcu: left out: ")
    assert "float island" in line
    assert [p.name for p in (tmp_path / "out").iterdir()] == [made[0].folder.name]
    with pytest.raises(GraphError, match="float island"):
        export(canonical, both, tmp_path / "again", say=quiet)


def test_a_float_bundle(road: Road, tmp_path: Path) -> None:
    (bundle,) = export(road.ptq, ONNX, tmp_path, Precision.FP32, quiet)
    assert bundle.folder.name == "discs-onnx-fp32"
    assert bundle.manifest.census.int8_layers == 0


@pytest.mark.parametrize("name", ["ptq.safetensors", "canonical.onnx"])
def test_a_truncated_model_is_named(road: Road, bundles: dict[str, Path], tmp_path: Path, name: str) -> None:
    whole = (road.ptq if name == "ptq.safetensors" else bundles["onnx"] / name).read_bytes()
    short = tmp_path / name
    short.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=name):
        write_canonical(short, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()
