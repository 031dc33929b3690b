from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from edge_unet.graph.frozen import name_functions
from edge_unet.graph.names import tensor_names


class Block(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x + x, x[:, :1].flatten(2).reshape(x[:, :1].shape)), dim=1)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(), Block()])
        self.pool = nn.MaxPool2d(2)

    def forward(self, image: Tensor) -> Tensor:
        y = self.blocks[0](self.pool(image))
        z: Tensor = self.blocks[1](self.pool(y)) + 1.0
        return z


def test_names_are_paths_and_unique() -> None:
    names = list(tensor_names(fx.symbolic_trace(Net()).graph).values())
    assert names[:4] == ["image", "pool", "blocks.0.add", "blocks.0.getitem"]
    assert {"pool_1", "blocks.1.add", "blocks.1.cat", "add"} <= set(names)
    assert len(names) == len(set(names))


def test_functions_as_modules_compute_the_same() -> None:
    x = torch.randn(1, 2, 8, 8)
    traced = fx.symbolic_trace(Net())
    expected = traced(x)
    name_functions(traced)
    assert {n.op for n in traced.graph.nodes} == {"placeholder", "call_module", "output"}
    assert torch.equal(traced(x), expected)
