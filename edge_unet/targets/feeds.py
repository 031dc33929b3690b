"""Feeds are checked before they reach a runtime, whose own words for a wrong one differ and rarely name the fix."""

from __future__ import annotations

from collections.abc import Collection

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


def check_forced(forced: Collection[str], known: Collection[str]) -> None:
    """Raise UsageError for codes given for a tensor that the graph does not quantize."""
    unknown = sorted(set(forced) - set(known))
    if unknown:
        raise UsageError(
            f"forced codes for unknown tensors {', '.join(unknown[:3])}; expected QuantizeLinear outputs of the "
            f"canonical graph, for example {next(iter(known), 'none: the graph has no Q/DQ')}"
        )
