"""Setting the scales of a prepared network from example frames."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from edge_unet.core.errors import UsageError
from edge_unet.quantization.fake_quant import FakeQuant
from edge_unet.quantization.layers import QuantConv
from edge_unet.quantization.observers import make_observer

ObserverName = Literal["minmax", "percentile", "entropy", "mse"]


@torch.no_grad()
def calibrate(
    net: nn.Module, batches: Iterable[Tensor], observer: ObserverName = "mse", percentile: float = 99.99
) -> None:
    """Set every learned activation scale of `net` from `batches`, and every weight scale from its weights.

    Batches are (N, C, H, W) normalised frames. The network runs in float while it is watched: scales must not depend
    on the order in which they are set. Raises UsageError where there is no batch.
    """
    quants = [m for m in net.modules() if isinstance(m, FakeQuant)]
    watched = [q for q in quants if q.axis is None and not q.fixed]
    enabled = [q.enabled for q in quants]
    try:
        for quant in quants:
            quant.enabled = False
        for quant in watched:
            quant.observer = make_observer(observer, percentile)
        count = 0
        for batch in batches:
            net(batch)
            count += 1
        if not count:
            raise UsageError("calibration received no batch; give it at least one frame")
        for quant in watched:
            if quant.observer is not None:
                low, high = quant.observer.range()
                quant.set_range(torch.tensor(low), torch.tensor(high))
    finally:
        for quant, was in zip(quants, enabled, strict=True):
            quant.observer, quant.enabled = None, was
    for module in net.modules():
        if isinstance(module, QuantConv):
            _cover_weights(module)


def _cover_weights(conv: QuantConv) -> None:
    """Per channel, the full range: 127 levels suffice for one filter, and clipping its peak costs more."""
    axis = conv.weight_quant.axis
    limit = conv.weight.abs().amax([d for d in range(conv.weight.dim()) if d != axis])
    conv.weight_quant.set_range(-limit, limit)
