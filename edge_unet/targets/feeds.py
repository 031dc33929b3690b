"""Feeds are checked before they reach a runtime, whose own words for a wrong one differ and rarely name the fix."""

from __future__ import annotations

from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import UsageError
from edge_unet.core.spec import Tensors


def check_feeds(feeds: Tensors, artifact: Artifact) -> None:
    """Raise UsageError unless `feeds` holds exactly the artifact's inputs, each in its shape and dtype."""
    expected = {spec.name for spec in artifact.inputs}
    if set(feeds) != expected:
        raise UsageError(f"{artifact.path}: expected feeds {sorted(expected)}, received {sorted(feeds)}")
    for spec in artifact.inputs:
        array = feeds[spec.name]
        if array.shape != spec.shape or array.dtype != spec.dtype:
            raise UsageError(
                f"{artifact.path}: input {spec.name!r} expects {spec.dtype} {spec.shape} ({spec.layout}), received "
                f"{array.dtype} {array.shape}; make it with core.spec.feed_from_pixels"
            )
