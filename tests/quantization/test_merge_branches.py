"""Parallel convolutions of one input become one, and nothing else does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edge_unet.models.blocks import BranchedConv
from edge_unet.quantization.fold import trace_folded


def lively(net: nn.Module) -> nn.Module:
    """BN with statistics and gains that are not the initial ones."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    return net.eval()


class Sum(nn.Module):
    """left(x) + right(x)."""

    def __init__(self, left: nn.Module, right: nn.Module) -> None:
        super().__init__()
        self.left, self.right = left, right

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the sum."""
        return self.left(x) + self.right(x)


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [m for m in net.modules() if isinstance(m, nn.Conv2d)]


@pytest.mark.parametrize("stride", [1, 2])
def test_branches_become_one_convolution_with_the_same_result(stride: int) -> None:
    torch.manual_seed(0)
    net = lively(nn.Sequential(BranchedConv(8, 12, stride), BranchedConv(12, 4, act=False)))
    x = torch.randn(2, 8, 12, 16)
    folded = trace_folded(net)
    assert [c.kernel_size for c in convolutions(folded)] == [(3, 3), (3, 3)]
    with torch.no_grad():
        assert torch.allclose(folded(x), net(x), atol=1e-5)


def test_the_order_of_the_branches_does_not_matter() -> None:
    torch.manual_seed(0)
    net = Sum(nn.Conv2d(4, 6, 1), nn.Conv2d(4, 6, 5, padding=2, bias=False)).eval()
    x = torch.randn(1, 4, 9, 9)
    folded = trace_folded(net)
    assert [c.kernel_size for c in convolutions(folded)] == [(5, 5)]
    with torch.no_grad():
        assert torch.allclose(folded(x), net(x), atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(4, 4, 1, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, (1, 3), padding=(0, 1)),
    ],
    ids=["groups", "dilation", "reflected", "not square"],
)
def test_what_cannot_be_one_stays_two(other: nn.Module) -> None:
    chained = Sum(nn.Conv2d(4, 4, 3, padding=1), nn.Sequential(nn.Conv2d(4, 4, 1), other))
    beside = Sum(nn.Conv2d(4, 4, 3, padding=1), other)
    x = torch.randn(1, 4, 8, 8)
    for case in (chained.eval(), beside.eval()):
        folded = trace_folded(case)
        assert len(convolutions(folded)) == len(convolutions(case))
        with torch.no_grad():
            assert torch.allclose(folded(x), case(x), atol=1e-5)


def test_a_convolution_that_is_used_twice_stays() -> None:
    shared = nn.Conv2d(4, 4, 3, padding=1)
    net = nn.Sequential(Sum(shared, nn.Conv2d(4, 4, 1)), shared).eval()
    assert len(convolutions(trace_folded(net))) == 2
