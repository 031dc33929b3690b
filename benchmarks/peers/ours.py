"""Bundles of ours for a peers run: the shipped model's, and presets of any size with barely trained weights."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import edge_unet.models
from edge_unet import __version__
from edge_unet.core.bundle import Bundle, open_bundle
from edge_unet.core.protocols import Target
from edge_unet.core.recipe import ModelSpec
from edge_unet.core.registry import lookup
from edge_unet.models import PRESETS
from edge_unet.pipeline.export import export
from edge_unet.pipeline.matrix import quick_checkpoint
from edge_unet.targets.registry import TARGETS

OURS = ("cpu", "android")
"""Targets of ours that are timed: OpenVINO INT8 and LiteRT INT8."""
TRAIN_SIZE = 128


def _targets() -> list[Target]:
    return [lookup(TARGETS, name, "target") for name in OURS]


def reference_bundles(room: Path) -> list[Bundle]:
    """The shipped model's."""
    return export(None, _targets(), room / "ours", say=lambda _: None)


def preset_bundles(names: Sequence[str], size: int, room: Path) -> list[Bundle]:
    """One bundle a preset and target, for size x size frames, kept in `room`.

    Latency does not depend on weights, as long as the masks are not empty: they are of one epoch on procedural scenes.
    Raises UsageError with the nearest name.
    """
    made: list[Bundle] = []
    for name in names:
        spec = lookup(PRESETS, name, "model")
        folder = room / f"{name}-{size}-{_digest(spec)}"
        if len(_kept(folder)) != len(OURS):
            shutil.rmtree(folder, ignore_errors=True)
            checkpoint = quick_checkpoint(name, spec, folder / "run", size=size, train_size=TRAIN_SIZE)
            export(checkpoint, _targets(), folder, say=lambda _: None)
        made += _kept(folder)
    return made


def _digest(spec: ModelSpec) -> str:
    """Of the network's size and of the code that builds networks: another shape is another folder."""
    hashed = hashlib.sha256(f"{__version__} {spec.model_dump_json()}".encode())
    for path in sorted(Path(edge_unet.models.__file__).parent.glob("*.py")):
        hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


def _kept(folder: Path) -> list[Bundle]:
    return [open_bundle(path) for name in OURS for path in folder.glob(f"*-{name}-int8")]
