"""The networks, one file each, and the registry that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec, Recipe
from edge_unet.core.registry import lookup, registry
from edge_unet.models.mobile_unet import MobileUNet
from edge_unet.models.unet import UNet

Builder = Callable[[ModelSpec, int, int], nn.Module]

MODELS: Mapping[str, Builder] = registry((("mobile_unet", MobileUNet), ("unet", UNet)))


def build(recipe: Recipe) -> nn.Module:
    """A freshly initialised network for the recipe. Raises UsageError where the input size does not fit its depth."""
    spec, frame = recipe.model, recipe.preprocess
    stride = 2**spec.depth
    if frame.height % stride or frame.width % stride:
        raise UsageError(
            f"{spec.name} at depth {spec.depth} needs an input height and width in multiples of {stride}, "
            f"received {frame.height}x{frame.width}; change [preprocess] or model.depth"
        )
    return lookup(MODELS, spec.name, "model")(spec, frame.channels, recipe.classes.channels)


__all__ = ["MODELS", "build"]
