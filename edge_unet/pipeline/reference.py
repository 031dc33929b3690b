"""The reference model that ships with the package, so that `edge-unet export --target jetson` works alone."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from edge_unet.core.errors import ArtifactError

REFERENCE = "endoscopy"


def reference_checkpoint() -> Path:
    """The shipped QAT checkpoint. Raises ArtifactError where the installation lacks it."""
    path = Path(str(files("edge_unet"))) / "reference" / f"{REFERENCE}.safetensors"
    if not path.is_file():
        raise ArtifactError(f"{path}: the shipped reference model is missing; reinstall edge-unet or name a checkpoint")
    return path


def reference_card() -> str:
    """The model card of the shipped model, Markdown."""
    return reference_checkpoint().with_suffix(".md").read_text(encoding="utf-8")
