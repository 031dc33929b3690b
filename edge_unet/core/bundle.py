"""A bundle: one folder with the artifact, its parent graph, golden frames and a manifest that hashes all of it.

manifest.json     what everything is, with the sha256 of every other file
<artifact.path>   the lowered model (a file or a folder)
canonical.onnx    the Q/DQ graph it was lowered from: the reference of verify
golden/NN.png, golden/NN.mask.png   frames at the model's input size and the class-id masks expected for them
integration/      sources for the app that runs the artifact, with its constants filled in
MODEL_CARD.md, LICENSE.txt
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from edge_unet.core.artifact import Artifact, Census
from edge_unet.core.errors import ArtifactError, UsageError, in_words
from edge_unet.core.files import canonical_json, sha256_of
from edge_unet.core.spec import ClassSpec, Frozen, PreprocessSpec, QuantScheme

MANIFEST = "manifest.json"
CANONICAL = "canonical.onnx"


class GoldenFrame(Frozen):
    """One frame and the class-id mask the reference gives for it, both PNG, paths relative to the bundle."""

    frame: str
    mask: str


class Manifest(Frozen):
    """manifest.json. No clock time is in it: the same input gives the same bytes."""

    schema_version: Literal[1] = 1
    name: str
    artifact: Artifact
    preprocess: PreprocessSpec
    classes: ClassSpec
    scheme: QuantScheme
    scene: Literal["endoscopy", "lanes"] = "endoscopy"
    """Which procedural scenes the golden frames are."""
    census: Census
    golden: tuple[GoldenFrame, ...]
    licence: str
    checkpoint_sha256: str | None
    calibration_sha256: str | None
    metrics: Mapping[str, float]
    """What the checkpoint carried, for example {'val_dice': 0.79}."""
    files: Mapping[str, str]
    """Relative path -> sha256 of every file or folder of the bundle but the manifest."""


class Bundle(Frozen):
    """An opened bundle. `folder` is where it lies."""

    folder: Path
    manifest: Manifest

    @property
    def canonical(self) -> Path:
        """The Q/DQ ONNX the artifact was lowered from."""
        return self.folder / CANONICAL

    @property
    def artifact(self) -> Path:
        """The lowered model."""
        return self.folder / self.manifest.artifact.path


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json into a bundle folder that is complete but for it."""
    (folder / MANIFEST).write_text(canonical_json(manifest.model_dump(mode="json")), encoding="utf-8")


def open_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle.

    Raises UsageError where the folder is no bundle, ArtifactError where the manifest is damaged, a file is missing
    or a sha256 differs (expected and received are named).
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise UsageError(f"{folder}: not a bundle (no {MANIFEST}); write one with: edge-unet export --out DIR")
    try:
        manifest = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        reason = in_words(error) if isinstance(error, ValidationError) else str(error)
        raise ArtifactError(f"{path}: damaged manifest ({reason}); export the bundle again") from error
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.exists():
            raise ArtifactError(f"{folder}: {name} is missing; export the bundle again")
        received = sha256_of(file)
        if received != expected:
            raise ArtifactError(
                f"{file}: sha256 expected {expected[:12]}…, received {received[:12]}…: "
                "the file was changed or truncated; export the bundle again"
            )
    if manifest.artifact.path not in manifest.files or CANONICAL not in manifest.files:
        raise ArtifactError(f"{path}: the artifact or {CANONICAL} is not listed in files; export the bundle again")
    return Bundle(folder=folder, manifest=manifest)
