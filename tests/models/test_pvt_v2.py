"""PVTv2: published sizes, and attention as torch computes it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from edge_unet.models.pvt_v2 import PVT_SIZES, PvtV2, ReducedAttention
from edge_unet.models.transformer import TokenAttention


@pytest.mark.parametrize(("size", "parameters"), [("b0", 3.41e6), ("b2", 24.85e6)])
def test_as_large_as_published(size: str, parameters: float) -> None:
    net = PvtV2(PVT_SIZES[size], 3)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(parameters, rel=1e-3)


def test_taps_stand_at_strides_4_to_32() -> None:
    with torch.no_grad():
        taps = PvtV2(PVT_SIZES["tiny"], 3)(torch.randn(2, 3, 64, 96))
    assert [tuple(tap.shape) for tap in taps] == [(2, 16, 16, 24), (2, 32, 8, 12), (2, 80, 4, 6), (2, 128, 2, 3)]


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    query, (key, value) = torch.randn(2, 12, 4, 6) * 3, torch.randn(2, 2, 12, 2, 3)

    def heads(x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 3, 4, -1).transpose(2, 3)  # (N, heads, L, depth)

    expected = functional.scaled_dot_product_attention(heads(query), heads(key), heads(value))
    expected = expected.transpose(2, 3).reshape(2, 12, 4, 6)
    torch.testing.assert_close(TokenAttention(3)(query, key, value), expected, rtol=1e-5, atol=1e-5)


def test_keys_come_from_patches_of_the_reduced_map() -> None:
    torch.manual_seed(0)
    part = ReducedAttention(8, 2, 4)
    assert isinstance(part.reduce, nn.Sequential)
    x = torch.randn(1, 8, 8, 8)
    other = x.clone()
    other[..., :4, :4] += 1  # one patch of 4x4: one key of four
    with torch.no_grad():
        changed = (part.reduce(x) - part.reduce(other)).abs().amax(1)[0] > 0
    assert changed.tolist() == [[True, False], [False, False]]
