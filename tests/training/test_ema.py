from __future__ import annotations

import torch
from torch import nn

from edge_unet.training.ema import Ema


def test_average_follows_with_its_decay_and_warms_up() -> None:
    net = nn.Linear(1, 1)
    nn.init.zeros_(net.weight)
    ema = Ema(net, 0.9)
    nn.init.ones_(net.weight)
    expected = 0.0
    for step in range(200):
        ema.update(step)
        expected += (1 - min(0.9, (1 + step) / (10 + step))) * (1 - expected)
        assert abs(float(ema.net.weight) - expected) < 1e-5
    assert expected > 0.999


def test_buffers_are_averaged_and_counters_copied() -> None:
    net = nn.BatchNorm2d(2)
    ema = Ema(net, 0.5)
    for step in range(5, 8):
        net(torch.randn(4, 2, 3, 3) + 3)
        ema.update(step + 100)
    assert int(ema.net.num_batches_tracked) == 3
    assert 0 < float(ema.net.running_mean[0]) < float(net.running_mean[0])


def test_average_is_a_separate_network_in_eval_mode() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    ema = Ema(net, 0.9)
    assert not ema.net.training
    assert not any(parameter.requires_grad for parameter in ema.net.parameters())
    before = ema.net[0].weight.clone()
    nn.init.ones_(net[0].weight)
    assert torch.equal(ema.net[0].weight, before)
    assert net[0].weight.requires_grad
