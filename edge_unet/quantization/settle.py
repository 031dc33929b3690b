"""Weights as the integers know them: for checkpoints that ship.

What training keeps below half a step of a grid reaches no runtime, but it is random bits that no archive compresses.
Without them a checkpoint of 13 MB adds 4 to a wheel, every export of it is the same, and a fine-tuning goes on from it.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from edge_unet.core.errors import UsageError
from edge_unet.models.checkpoint import Checkpoint
from edge_unet.quantization.layers import QuantConv
from edge_unet.quantization.restore import restore


@torch.no_grad()
def settled(checkpoint: Checkpoint) -> Checkpoint:
    """`checkpoint` with every quantized weight and bias on its grid, scales as they are; its `sha256` is still that of
    the file it came from. Raises UsageError for a float checkpoint, which has no grids."""
    if checkpoint.info.kind not in ("ptq", "qat"):
        raise UsageError(f"a checkpoint of kind {checkpoint.info.kind!r} has no integers; quantize it first")
    net = restore(checkpoint)
    for module in net.modules():
        if isinstance(module, QuantConv):
            weight, bias = module.weight_quant(module.weight), module.grid_bias().clone()
            module.weight.copy_(weight)
            module.bias.copy_(bias)
    return replace(checkpoint, state=dict(net.state_dict()))
