"""Weights on their grids are the same network to every integer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_road import Road
from torch import fx

from edge_unet.core.errors import ArtifactError, UsageError
from edge_unet.core.recipe import Recipe
from edge_unet.graph.frozen import freeze
from edge_unet.models import build
from edge_unet.models.checkpoint import Checkpoint, CheckpointInfo, load_checkpoint, save_checkpoint
from edge_unet.pipeline.reference import reference_checkpoint
from edge_unet.quantization.layers import QuantConv
from edge_unet.quantization.ptq import quantize_ptq
from edge_unet.quantization.restore import restore
from edge_unet.quantization.settle import settled


def integers(checkpoint: Checkpoint) -> Mapping[str, torch.Tensor]:
    """All constants of the network that is exported: codes, scales, biases."""
    net = restore(checkpoint)
    assert isinstance(net, fx.GraphModule)
    return freeze(net).state_dict()


def test_a_shipped_model_exports_the_same_integers() -> None:
    trained = load_checkpoint(reference_checkpoint("lanes-nano"))
    made = settled(trained)
    before, after = integers(trained), integers(made)
    assert before.keys() == after.keys()
    assert any(value.dtype is torch.int8 and value.numel() > 1000 for value in before.values())
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = settled(made)
    assert all(torch.equal(again.state[name], value) for name, value in made.state.items())
    whole, small = (sum(t.numel() * t.element_size() for t in c.state.values()) for c in (trained, made))
    assert small < 0.3 * whole


def test_a_transposed_convolution_settles_too(tmp_path: Path) -> None:
    """Its channels are along the second axis."""
    recipe = Recipe.model_validate(
        {
            "model": {"name": "unet", "base": 8, "depth": 2, "upsample": "deconv"},
            "preprocess": {"height": 32, "width": 32},
        }
    )
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "f.safetensors", CheckpointInfo(kind="fp32", recipe=recipe), build(recipe).state_dict())
    frames = np.random.default_rng(0).integers(0, 256, (32, 32, 32, 3), np.uint8)
    net, info = quantize_ptq(load_checkpoint(tmp_path / "f.safetensors"), frames, recipe.quantize)
    save_checkpoint(tmp_path / "q.safetensors", info, net.state_dict())
    trained = load_checkpoint(tmp_path / "q.safetensors")
    assert any(isinstance(m, QuantConv) and m.transposed for m in net.modules())
    save_checkpoint(tmp_path / "s.safetensors", info, settled(trained).state)
    before, after = integers(trained), integers(load_checkpoint(tmp_path / "s.safetensors"))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_codes_without_their_scales_are_a_damaged_file() -> None:
    made = settled(load_checkpoint(reference_checkpoint("lanes-nano")))
    state = {name: value for name, value in made.state.items() if not name.endswith("weight_quant.base")}
    with pytest.raises(ArtifactError, match="does not fit its own recipe"):
        restore(replace(made, state=state))


def test_a_float_checkpoint_has_no_grid(road: Road) -> None:
    with pytest.raises(UsageError, match="'fp32' has no integers"):
        settled(load_checkpoint(road.fp32))
