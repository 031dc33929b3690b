"""Weights on their grids are the same network to every integer."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import pytest
import torch
from small_road import Road
from torch import fx

from edge_unet.core.errors import UsageError
from edge_unet.graph.frozen import freeze
from edge_unet.models.checkpoint import Checkpoint, load_checkpoint
from edge_unet.pipeline.reference import reference_checkpoint
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
    name = max(made.state, key=lambda n: made.state[n].numel())  # the largest weight
    assert not torch.equal(made.state[name], trained.state[name])
    whole, small = (len(zlib.compress(c.state[name].numpy().tobytes())) for c in (trained, made))
    assert small < whole / 2


def test_a_float_checkpoint_has_no_grid(road: Road) -> None:
    with pytest.raises(UsageError, match="'fp32' has no integers"):
        settled(load_checkpoint(road.fp32))
