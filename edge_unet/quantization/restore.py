"""From a checkpoint back to the network it holds."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, fx, nn

from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.recipe import Recipe
from edge_unet.models import build
from edge_unet.models.checkpoint import Checkpoint
from edge_unet.models.levels import cut_to_level
from edge_unet.quantization.layers import QuantConv
from edge_unet.quantization.prepare import prepare

_SHOWN = 200
"""Characters of torch's own message: it lists every weight of the network."""


def build_quantized(recipe: Recipe, weights: Mapping[str, Tensor] | None = None) -> fx.GraphModule:
    """The quantized network of a recipe; `weights` are the float network's, to be folded.

    Quantizers are laid out before it is cut to its level, so that a level has the grids of the whole network whether
    it was pruned before or after quantization.
    """
    level = recipe.model.level
    model = recipe.model if level is None else recipe.model.model_copy(update={"level": None, "deep": True})
    whole = recipe.model_copy(update={"model": model})
    net = build(whole)
    if weights is not None:
        net.load_state_dict(weights, strict=level is None)  # of the whole network, a pruned one has only a part
    quantized = prepare(net, whole)
    return quantized if level is None else cut_to_level(quantized, level)


def unpacked(net: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` of a quantized `net` with the weights of a settled checkpoint (settle.py), which are int8 codes, as the
    numbers they stand for."""
    weights = {}
    for path, module in net.named_modules():
        codes = state.get(f"{path}.weight")
        if isinstance(module, QuantConv) and codes is not None and codes.dtype is torch.int8:
            base, gain = (state.get(f"{path}.weight_quant.{part}") for part in ("base", "gain"))
            if base is not None and gain is not None:  # else the caller finds them missing
                weights[f"{path}.weight"] = module.weight_quant.on_grid(codes, base * gain)
    return {**state, **weights}


def restore(checkpoint: Checkpoint) -> nn.Module:
    """The network of a checkpoint in eval mode: the float one, or (ptq, qat) the fx.GraphModule with fake-quant on.

    Raises UsageError for a warm-up, which is no segmenter; ArtifactError where the weights do not fit the recipe in the
    header.
    """
    recipe = checkpoint.info.recipe
    if checkpoint.info.kind == "pretrain":
        raise UsageError(
            f"checkpoint {checkpoint.sha256[:12]} is a warm-up, which has seen no mask; "
            "train on: edge-unet train --init CHECKPOINT"
        )
    net = build(recipe) if checkpoint.info.kind == "fp32" else build_quantized(recipe)
    try:
        net.load_state_dict(checkpoint.state if checkpoint.info.kind == "fp32" else unpacked(net, checkpoint.state))
    except RuntimeError as error:
        found = " ".join(line.strip() for line in str(error).splitlines()[1:3])
        found = found if len(found) <= _SHOWN else f"{found[:_SHOWN]}…"
        raise ArtifactError(
            f"checkpoint {checkpoint.sha256[:12]} ({checkpoint.info.kind}) does not fit its own recipe: "
            f"{found}; it was written by another version, train again"
        ) from error
    return net.eval()
