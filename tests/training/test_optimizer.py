from __future__ import annotations

import torch
from torch import nn

from edge_unet.core.recipe import TrainSpec
from edge_unet.training.optimizer import build_optimizer, optimizer_tensors, restore_optimizer, set_learning_rate


def net() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 1, 1))
    return layers.to(memory_format=torch.channels_last)


def step(model: nn.Module, optimizer: torch.optim.AdamW, seed: int) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()


def test_only_matrices_and_kernels_decay() -> None:
    model = net()
    optimizer = build_optimizer(model, TrainSpec(weight_decay=0.1))
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[id(p)] for name, p in model.named_parameters()} == {
        "0.weight": 0.1,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "3.weight": 0.1,
        "3.bias": 0.0,
    }


def test_learning_rate_reaches_every_group() -> None:
    optimizer = build_optimizer(net(), TrainSpec())
    set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_restored_optimizer_takes_the_same_step() -> None:
    first = net()
    optimizer = build_optimizer(first, TrainSpec())
    for seed in range(3):
        step(first, optimizer, seed)
    second = net()
    second.load_state_dict(first.state_dict())
    restored = build_optimizer(second, TrainSpec())
    saved = {name: value.clone().contiguous() for name, value in optimizer_tensors(optimizer).items()}
    restore_optimizer(restored, saved)
    moment = restored.state[second[0].weight]["exp_avg"]
    assert moment.is_contiguous(memory_format=torch.channels_last)
    step(first, optimizer, 9)
    step(second, restored, 9)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
