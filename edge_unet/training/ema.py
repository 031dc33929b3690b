"""An exponential moving average of a network: the weights that are validated and shipped."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """A second network that follows the first. Floating point parameters and buffers are averaged (BN statistics
    must fit the averaged weights), integers are copied.

    The decay warms up as (1 + t) / (10 + t), so that the average does not remember the initialisation.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay = decay
        self._pairs = _tensor_pairs(self.net, net)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the network after optimizer step number `step` (from 0)."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        for average, value in self._pairs:
            if average.is_floating_point():
                average.lerp_(value, weight)
            else:
                average.copy_(value)


def _tensor_pairs(average: nn.Module, net: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """The live tensors of both state dicts, by name."""
    source = net.state_dict(keep_vars=True)
    return [(tensor, source[name].detach()) for name, tensor in average.state_dict(keep_vars=True).items()]
