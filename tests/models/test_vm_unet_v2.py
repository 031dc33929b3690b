"""VM-UNetV2: as large as published, trainable, prunable, and exact as a canonical file."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from network_checks import (
    heads_of,
    recipe_of,
    silent_parameters,
)

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build, build_whole, vm_unet_v2
from edge_unet.models.cost import cost_of

TINY = PRESETS["vm_unet_v2-tiny"]
DISCARDED = 48 * 48 * 16 + 10
"""Parameters of the official class that are not of the network: a deconvolution that is never called, and the
transposed convolution of its fused supervision."""


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"),
    [
        ("vm_unet_v2-2292", 22.771e6, 5.34e9),
        ("vm_unet_v2-2292-paper", 22.771e6, 5.34e9),
        ("vm_unet_v2-2222", 14.40e6, 3.30e9),
        ("vm_unet_v2-22272", 44.29e6, 10.58e9),
        ("vm_unet_v2-tiny", 356_092 + DISCARDED, 0.1313e9),
    ],
)
def test_size_is_the_official_code_s(preset: str, parameters: float, macs: float) -> None:
    with torch.device("meta"):
        found = cost_of(build_whole(recipe_of(PRESETS[preset], 256)), 3, 256, 256)
    assert found.parameters + DISCARDED == pytest.approx(parameters, rel=5e-4)
    assert found.macs == pytest.approx(macs, rel=2e-3)


def test_it_takes_frames_that_are_not_square() -> None:
    net = build_whole(recipe_of(TINY)).eval()
    assert [head.shape for head in heads_of(net, torch.zeros(1, 3, 32, 96))] == [(1, 1, 32, 96)] * 5


def test_the_published_product_trains_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_unet_v2, "SIZES", {"tiny": replace(vm_unet_v2.SIZES["tiny"], product="plain")})
    assert silent_parameters(TINY) == []


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown vm_unet_v2 variant '2229'"):
        build(recipe_of(ModelSpec(name="vm_unet_v2", variant="2229")))
    with pytest.raises(UsageError, match=r"model\.depth = 5, received 4"):
        build(recipe_of(ModelSpec(name="vm_unet_v2", variant="tiny", depth=4)))
