"""Bundles: opened only when every file is what the manifest says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_unet.core.artifact import Artifact, Census, LayerPlacement
from edge_unet.core.bundle import CANONICAL, MANIFEST, GoldenFrame, Manifest, open_bundle, write_manifest
from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.files import sha256_of
from edge_unet.core.spec import ClassSpec, Precision, PreprocessSpec, QuantScheme, TensorSpec


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    for name in ("model.bin", CANONICAL):
        (tmp_path / name).write_bytes(name.encode() * 100)
    spec = TensorSpec(name="x", shape=(1, 3, 8, 8), dtype="float32", layout="NCHW")
    artifact = Artifact(
        path="model.bin", sha256=sha256_of(tmp_path / "model.bin"), bytes=900, target="onnx", precision=Precision.INT8,
        inputs=(spec,), outputs=(spec,), toolchain={}, parent_sha256="0",
    )  # fmt: skip
    layers = (LayerPlacement(name="a", op="Conv", precision="int8", unit="u"),)
    manifest = Manifest(
        name="m", artifact=artifact, preprocess=PreprocessSpec(height=8, width=8),
        classes=ClassSpec(names=("a", "b"), palette=((0, 0, 0), (1, 1, 1))), scheme=QuantScheme.PORTABLE,
        census=Census(layers=layers, source="test"), golden=(GoldenFrame(frame="a", mask="b"),), licence="none",
        checkpoint_sha256=None, calibration_sha256=None, metrics={},
        files={name: sha256_of(tmp_path / name) for name in ("model.bin", CANONICAL)},
    )  # fmt: skip
    write_manifest(tmp_path, manifest)
    return tmp_path


def test_round_trip(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.manifest.artifact.bytes == 900
    assert opened.manifest.census.by_precision() == {"int8": 1}
    assert opened.artifact.read_bytes().startswith(b"model.bin")


def test_a_truncated_file_is_named_with_both_hashes(bundle: Path) -> None:
    expected = sha256_of(bundle / "model.bin")[:12]
    (bundle / "model.bin").write_bytes(b"short")
    with pytest.raises(ArtifactError, match=rf"model\.bin: sha256 expected {expected}…, received"):
        open_bundle(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / CANONICAL).unlink()
    with pytest.raises(ArtifactError, match=r"canonical\.onnx is missing"):
        open_bundle(bundle)


@pytest.mark.parametrize("damage", ["{", '{"schema_version": 9}', ""])
def test_a_damaged_manifest_is_an_artifact_error(bundle: Path, damage: str) -> None:
    (bundle / MANIFEST).write_text(damage)
    with pytest.raises(ArtifactError, match="damaged manifest"):
        open_bundle(bundle)


def test_an_unlisted_artifact_is_refused(bundle: Path) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    del manifest["files"]["model.bin"]
    (bundle / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match="not listed"):
        open_bundle(bundle)


def test_no_bundle_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a bundle"):
        open_bundle(tmp_path / "absent")
