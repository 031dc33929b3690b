"""The .mlpackage as a folder: written with the same bytes every time, and read back with errors that name it.

Manifest.json                                  two UUIDs; here derived from the content
Data/com.apple.CoreML/model.mlmodel            the Model protobuf with the ML Program
Data/com.apple.CoreML/weights/weight.bin       constants
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_unet.canonical import METADATA_KEY, parse_metadata
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import ArtifactError
from edge_unet.core.files import sha256_of
from edge_unet.targets.coreml.names import NAMES_KEY, NameTable, parse_names
from edge_unet.targets.coreml.toolchain import quiet_coremltools

DATA = "Data"
MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights"
MANIFEST = "Manifest.json"
CONVERSION_DATE = "com.github.apple.coremltools.conversion_date"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/apple/coremltools#mlpackage")


@dataclass(frozen=True)
class Package:
    """A saved package, loaded. `spec` is the Model protobuf, `program` the MIL program read back from it."""

    path: Path
    spec: Any
    program: Any
    names: NameTable
    islands: Mapping[str, str]
    """Path of each float island -> why it stays float."""

    @property
    def main(self) -> Any:
        """The MIL function `main`."""
        return self.program.functions["main"]


def save_package(model: Any, spec: Any, path: Path) -> None:
    """Write a coremltools MLModel to `path` (a folder ending in .mlpackage) with `spec` as its Model protobuf.

    coremltools puts today's date into the metadata, random UUIDs into the manifest and map entries in hash order into
    the protobuf: all three are settled here.
    """
    model.save(str(path))
    spec.description.metadata.userDefined.pop(CONVERSION_DATE, None)
    (path / MODEL).write_bytes(spec.SerializeToString(deterministic=True))
    manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    content = sha256_of(path / DATA)
    renamed = {
        old: str(uuid.uuid5(_NAMESPACE, f"{content}/{entry['path']}")).upper()
        for old, entry in manifest["itemInfoEntries"].items()
    }
    manifest["itemInfoEntries"] = {renamed[old]: entry for old, entry in manifest["itemInfoEntries"].items()}
    manifest["rootModelIdentifier"] = renamed[manifest["rootModelIdentifier"]]
    # Exactly how libmodelpackage writes it: it rewrites the file whenever coremltools opens the package, and the hash
    # of the package must survive that.
    (path / MANIFEST).write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", encoding="utf-8")


def load_package(folder: Path, artifact: Artifact) -> Package:
    """Read a saved package and its MIL program; needs no Mac.

    Raises ArtifactError where files are missing, differ from the artifact's sha256, or do not parse.
    """
    path = folder / artifact.path
    if not (path / MODEL).is_file() or not (path / MANIFEST).is_file():
        raise ArtifactError(f"{path}: not a Core ML package (expected {MANIFEST} and {MODEL}); export the model again")
    received = sha256_of(path)
    if received != artifact.sha256:
        raise ArtifactError(
            f"{path}: sha256 expected {artifact.sha256[:12]}…, received {received[:12]}…: "
            "the package was changed or truncated; export the model again"
        )
    return parse_package(path)


def parse_package(path: Path) -> Package:
    """Parse the package at `path` without a check of its hash."""
    with quiet_coremltools():
        from coremltools.converters.mil.frontend.milproto.load import load as load_mil
        from coremltools.proto import Model_pb2

        try:
            # Not by way of MLModel, which writes into the package it opens.
            spec = Model_pb2.Model.FromString((path / MODEL).read_bytes())
            program = load_mil(spec, spec.specificationVersion, file_weights_dir=str(path / WEIGHTS))
        except Exception as error:  # protobuf, the blob reader and MIL's type checks each raise their own
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ArtifactError(f"{path}: damaged or truncated package ({first}); export the model again") from error
    user = spec.description.metadata.userDefined
    if NAMES_KEY not in user:
        raise ArtifactError(f"{path}: no {NAMES_KEY!r} metadata; expected a package written by edge-unet export")
    names = parse_names(user[NAMES_KEY], source=str(path))
    return Package(path, spec, program, names, parse_metadata(user[METADATA_KEY]).islands)
