"""AdamW with the parameter groups the two phases need."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from edge_unet.core.recipe import TrainSpec


def build_optimizer(net: nn.Module, spec: TrainSpec) -> AdamW:
    """AdamW over the trainable parameters. Weights decay; BN, biases and learned quantization scales, all of at most
    one dimension, do not: a scale rests at its calibrated value, not at 0."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in net.parameters():
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": spec.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return AdamW([group for group in groups if group["params"]], lr=spec.learning_rate, fused=True)


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    """The same learning rate for every group."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: AdamW) -> dict[str, Tensor]:
    """The moments and step counts as named tensors ('3.exp_avg'), in the order of the parameters."""
    return {
        f"{index}.{key}": value
        for index, parameter in enumerate(_parameters(optimizer))
        for key, value in optimizer.state[parameter].items()
    }


@torch.no_grad()
def restore_optimizer(optimizer: AdamW, tensors: dict[str, Tensor]) -> None:
    """Undo `optimizer_tensors`. Moments take their parameter's memory format, as AdamW itself would make them."""
    parameters = list(_parameters(optimizer))
    for name, value in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        like = parameter if key != "step" else value.to(parameter.device)
        optimizer.state[parameter][key] = torch.empty_like(like, dtype=value.dtype, requires_grad=False).copy_(value)


def _parameters(optimizer: AdamW) -> Iterable[Tensor]:
    """All parameters, group by group."""
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
