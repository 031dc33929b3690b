"""Weights as the integers know them: for checkpoints that ship.

What training keeps below half a step of a grid reaches no runtime. Without it a checkpoint holds int8 codes beside its
scales, a quarter of the bytes; every export of it is the same, and a fine-tuning goes on from what the codes mean.
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
    """`checkpoint` with every quantized weight as int8 codes and its bias on the accumulator's grid; scales as they
    are. Its `sha256` is still that of the file it came from. Raises UsageError for a float checkpoint, which has no
    grids."""
    if checkpoint.info.kind not in ("ptq", "qat"):
        raise UsageError(f"a checkpoint of kind {checkpoint.info.kind!r} has no integers; quantize it first")
    net = restore(checkpoint)
    state = dict(net.state_dict())
    for path, module in net.named_modules():
        if isinstance(module, QuantConv):
            state[f"{path}.weight"] = module.weight_quant.codes(module.weight)
            state[f"{path}.bias"] = module.grid_bias().clone()
    return replace(checkpoint, state=state)
