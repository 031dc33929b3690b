"""Parameters and MACs of the whole networks beside what is published or counted from official code."""

from __future__ import annotations

import pytest
import torch
from network_checks import cost, recipe_of

from edge_unet.models import PRESETS, build_whole

SIZES = [
    # Published at the first row of each; the others have a quarter or an eighth of its channels.
    ("attention_unet-64", 256, 34.88e6, 66.42e9, 0.01),
    ("attention_unet-16", 256, 34.88e6 / 16, 66.42e9 / 16, 0.02),
    ("attention_unet-8", 256, 34.88e6 / 64, 66.42e9 / 64, 0.02),
    ("resunet-64", 256, 8.22e6, 45.23e9, 0.01),
    ("resunet-16", 256, 8.22e6 / 16, 45.23e9 / 16, 0.02),
    ("unet3p-64", 256, 26.99e6, 197.72e9, 0.01),
    ("unet3p-16", 256, 26.99e6 / 16, 197.72e9 / 16, 0.02),
    ("unet3p-8", 256, 26.99e6 / 64, 197.72e9 / 64, 0.02),
    # Counted from the official code at 9 classes.
    ("transunet-b16", 224, 105.28e6, 29.23e9, 0.01),
    ("transunet-b16", 256, 105.32e6, 38.38e9, 0.01),
    ("transunet-tiny", 256, 253_521, 0.4450e9, 0.01),
    # Counted from the official code; it has a fifth deconvolution (16,384) that it never calls.
    ("unet_v2-b2", 256, 25.145e6, 5.555e9, 0.01),
    ("unet_v2-b2-paper", 256, 25.145e6, 5.555e9, 0.01),
    ("unet_v2-b0", 256, 3.637e6, 0.987e9, 0.01),
    ("unet_v2-tiny", 256, 541_884, 0.1606e9, 0.01),
    # The shifts count as multiplications here.
    ("unext", 256, 1.472e6, 0.562e9, 0.01),
    ("unext-s", 256, 0.2536e6, 0.0992e9, 0.01),
    # The published part of the sum is the encoder: see below.
    ("mobile_unet_v2-1.0", 256, 2_043_148, 0.5941e9, 0.001),
    ("mobile_unet_v2-0.5", 256, 540_700, 0.1700e9, 0.001),
    ("mobile_unetpp-1.0", 256, 1_902_724, 0.5711e9, 0.001),
    ("mobile_unetpp-0.5", 256, 507_380, 0.1808e9, 0.001),
]


@pytest.mark.parametrize(("preset", "size", "parameters", "macs", "within"), SIZES)
def test_size(preset: str, size: int, parameters: float, macs: float, within: float) -> None:
    found, multiplied = cost(PRESETS[preset], size)
    assert found == pytest.approx(parameters, rel=min(within, 0.01))
    assert multiplied == pytest.approx(macs, rel=within)


@pytest.mark.parametrize("network", ["mobile_unet_v2", "mobile_unetpp"])
@pytest.mark.parametrize(("width", "parameters"), [("1.0", 1.812e6), ("0.5", 0.480e6)])
def test_the_encoder_is_timm_s_mobilenet_v2_features(network: str, width: str, parameters: float) -> None:
    with torch.device("meta"):
        net = build_whole(recipe_of(PRESETS[f"{network}-{width}"])).get_submodule
    encoder = sum(p.numel() for part in ("stem", "encoder") for p in net(part).parameters())
    assert encoder == pytest.approx(parameters, rel=1e-2)
