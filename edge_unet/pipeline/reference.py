"""The models that ship with the package, so that `edge-unet export --target jetson` works alone."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.registry import nearest, registry

REFERENCE = "endoscopy"
SHIPPED: Mapping[str, str] = registry(
    (
        ("endoscopy", "polyps, edge_unet-nano, 256x256, a head on every level: the default"),
        ("endoscopy-small", "polyps, edge_unet-small, 256x256, a head on every level"),
        ("endoscopy-mobile", "polyps, Mobile U-Net, 256x256"),
        ("lanes-nano", "lane markings, edge_unet, 224x384, a head on every level"),
        ("lanes-small", "lane markings, edge_unet-small, 224x384, a head on every level"),
        ("roads-nano", "street scenes in eleven classes, edge_unet-nano, 256x352"),
        ("roads-small", "street scenes in eleven classes, edge_unet-small, 256x352, a head on every level"),
    )
)
"""Name -> what it is. Each is a QAT checkpoint and a model card beside it."""


def reference_checkpoint(name: str = REFERENCE) -> Path:
    """A shipped QAT checkpoint. Raises UsageError with the nearest name, ArtifactError where the installation lacks
    its file."""
    if name not in SHIPPED:
        raise UsageError(f"no shipped model {name!r}; {nearest(name, SHIPPED)}")
    path = Path(str(files("edge_unet"))) / "reference" / f"{name}.safetensors"
    if not path.is_file():
        raise ArtifactError(f"{path}: the shipped model is missing; reinstall edge-unet or name a checkpoint")
    return path


def reference_card(name: str = REFERENCE) -> str:
    """The model card of a shipped model, Markdown."""
    return reference_checkpoint(name).with_suffix(".md").read_text(encoding="utf-8")


def shipped_name(model: Path | None) -> str | None:
    """The shipped model that `model` means: the default for None, one of that name where no such file stands; else
    None."""
    if model is None:
        return REFERENCE
    return str(model) if str(model) in SHIPPED and not model.exists() else None


def model_file(model: Path | None) -> Path:
    """The file that `model` means: itself, or that of a shipped model."""
    name = shipped_name(model)
    if name is not None:
        return reference_checkpoint(name)
    assert model is not None  # None has a name
    return model
