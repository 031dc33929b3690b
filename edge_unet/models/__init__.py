"""The networks, one file each, and the registry that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec, Recipe
from edge_unet.core.registry import lookup, registry
from edge_unet.models import (
    attention_unet,
    edge_unet,
    mobile_unet,
    mobile_unet_v2,
    mobile_unetpp,
    mobile_vm_unet_v2,
    resunet,
    transunet,
    unet,
    unet3p,
    unet_v2,
    unetpp,
    unext,
    vm_unet_v2,
)
from edge_unet.models.islands import trace
from edge_unet.models.levels import cut_to_level, level_names, outputs_of
from edge_unet.models.transformer import fit_positions

Builder = Callable[[ModelSpec, int, int], nn.Module]

MODELS: Mapping[str, Builder] = registry(
    (
        ("edge_unet", edge_unet.EdgeUNet),
        ("mobile_unet", mobile_unet.MobileUNet),
        ("unet", unet.UNet),
        ("unetpp", unetpp.UNetPlusPlus),
        ("unet_v2", unet_v2.UNetV2),
        ("mobile_unet_v2", mobile_unet_v2.MobileUNetV2),
        ("transunet", transunet.TransUNet),
        ("attention_unet", attention_unet.AttentionUNet),
        ("resunet", resunet.ResUNet),
        ("unet3p", unet3p.UNet3Plus),
        ("unext", unext.UNeXt),
        ("mobile_unetpp", mobile_unetpp.MobileUNetPlusPlus),
        ("vm_unet_v2", vm_unet_v2.VMUNetV2),
        ("mobile_vm_unet_v2", mobile_vm_unet_v2.MobileVMUNetV2),
    )
)

PRESETS: Mapping[str, ModelSpec] = registry(
    (
        *edge_unet.PRESETS,
        *mobile_unet.PRESETS,
        *unet.PRESETS,
        *unetpp.PRESETS,
        *unet_v2.PRESETS,
        *mobile_unet_v2.PRESETS,
        *transunet.PRESETS,
        *attention_unet.PRESETS,
        *resunet.PRESETS,
        *unet3p.PRESETS,
        *unext.PRESETS,
        *mobile_unetpp.PRESETS,
        *vm_unet_v2.PRESETS,
        *mobile_vm_unet_v2.PRESETS,
    )
)
"""Name -> network and size; the name is the registry's and what sets the size."""


def build(recipe: Recipe) -> nn.Module:
    """A freshly initialised network for the recipe. A tuple of logits comes out only where `model.deep` is on and no
    level is chosen. Raises UsageError where the input size does not fit its depth, or it has no such level."""
    net = build_whole(recipe)
    if recipe.model.deep and recipe.model.level is None:
        return net
    traced = trace(net)
    names = level_names(len(outputs_of(traced)))
    if not names and recipe.model.level is None:
        return net
    return cut_to_level(traced, recipe.model.level or names[-2])


def build_whole(recipe: Recipe) -> nn.Module:
    """The network with every head it has."""
    spec, frame = recipe.model, recipe.preprocess
    stride = 2**spec.depth
    if frame.height % stride or frame.width % stride:
        raise UsageError(
            f"{spec.name} at depth {spec.depth} needs an input height and width in multiples of {stride}, "
            f"received {frame.height}x{frame.width}; change [preprocess] or model.depth"
        )
    net = lookup(MODELS, spec.name, "model")(spec, frame.channels, recipe.classes.channels)
    fit_positions(net, frame.height, frame.width)
    return net


__all__ = ["MODELS", "PRESETS", "build", "build_whole"]
