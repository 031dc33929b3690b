"""Attention U-Net: as large as its 2-D port, and its gates close."""

from __future__ import annotations

import torch
from network_checks import (
    SLIM,
    heads_of,
    pictures,
    settled,
)
from torch import nn

from edge_unet.models.attention_unet import AttentionUNet


def test_a_closed_gate_lets_nothing_of_the_skip_through() -> None:
    shut = settled(SLIM["attention_unet"])
    assert isinstance(shut, AttentionUNet)
    for gate in shut.gate:
        nn.init.constant_(gate.psi[1].weight, 0.0)
        nn.init.constant_(gate.psi[1].bias, -200.0)  # sigmoid: exactly 0 in float32
    seen: list[torch.Tensor] = []
    for conv in shut.decoder:
        conv.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    heads_of(shut, pictures())
    for joined in seen:
        skip, coarse = joined.chunk(2, dim=1)
        assert not skip.any()
        assert coarse.any()
