"""Mobile UNet++: nested skips on MobileNetV2 taps, pruned exactly, encoder and all."""

from __future__ import annotations

import pytest
import torch
from network_checks import (
    recipe_of,
)

from edge_unet.models import PRESETS, build_whole
from edge_unet.models.levels import cut_to_level


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_level_keeps_its_triangle_of_nodes_and_its_part_of_the_encoder(depth: int) -> None:
    with torch.device("meta"):
        whole = build_whole(recipe_of(PRESETS["mobile_unetpp-0.5"]))
    names = [n.split(".") for n, _ in cut_to_level(whole, f"L{depth}").named_parameters()]
    assert {n[1] for n in names if n[0] == "encoder"} == {str(i) for i in range(depth + 1)}
    assert {n[1] for n in names if n[0] == "node"} == {
        f"{i}_{j}" for j in range(1, depth + 1) for i in range(depth + 1 - j)
    }
