"""Mobile VM-UNetV2 with both forms of its scan."""

from __future__ import annotations

import pytest
import torch
from network_checks import (
    recipe_of,
)

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build, build_whole
from edge_unet.models.cost import cost_of
from edge_unet.models.islands import islands_of, trace


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"),
    [
        ("mobile_vm_unet_v2-1.0", 2_084_748, 0.5992e9),
        ("mobile_vm_unet_v2-ssd-1.0", 2_074_556, 0.6044e9),
        ("mobile_vm_unet_v2-0.5", 557_916, 0.1720e9),
        ("mobile_vm_unet_v2-ssd-0.5", 553_076, 0.1748e9),
    ],
)
def test_size_is_that_of_mobile_unet_v2_and_two_blocks(preset: str, parameters: int, macs: float) -> None:
    with torch.device("meta"):
        found, without = (
            cost_of(build_whole(recipe_of(PRESETS[name], 256)), 3, 256, 256)
            for name in (preset, f"mobile_unet_v2-{preset[-3:]}")
        )
    assert (found.parameters, found.macs) == (parameters, pytest.approx(macs, rel=1e-3))
    blocks = [m for n, m in build_whole(recipe_of(PRESETS[preset])).named_modules() if n in ("taps.2.2", "taps.3.2")]
    assert parameters - without.parameters == sum(p.numel() for block in blocks for p in block.parameters())


@pytest.mark.parametrize("preset", ["mobile_vm_unet_v2-0.5", "mobile_vm_unet_v2-ssd-0.5"])
def test_scans_stand_only_where_they_are_short(preset: str) -> None:
    scans = {path for path in islands_of(trace(build_whole(recipe_of(PRESETS[preset])))) if path.endswith(".scan")}
    assert scans == {"taps.2.2.mix.scan", "taps.3.2.mix.scan"}  # 1/16 and 1/32: 256 and 64 positions at 256x256


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown mobile_vm_unet_v2 variant 'mamba'"):
        build(recipe_of(ModelSpec(name="mobile_vm_unet_v2", variant="mamba")))
