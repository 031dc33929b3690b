from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edge_unet.core.errors import GraphError
from edge_unet.core.recipe import Recipe
from edge_unet.quantization.fold import fold, trace_folded


@pytest.mark.parametrize("name", ["mobile_unet", "unet"])
def test_folding_changes_nothing_but_rounding(
    name: str, make_recipe: Callable[..., Recipe], make_net: Callable[[Recipe], nn.Module], frames_real: Tensor
) -> None:
    net = make_net(make_recipe(name))
    folded = trace_folded(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())  # the original is untouched
    with torch.no_grad():
        torch.testing.assert_close(folded(frames_real), net(frames_real), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, bias=True),
        nn.Conv2d(4, 8, 3, groups=4, bias=False),
        nn.ConvTranspose2d(4, 6, 2, stride=2),
        nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2, bias=False),
    ],
)
def test_each_kind_of_convolution_folds(conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
    torch.manual_seed(2)
    bn = nn.BatchNorm2d(conv.out_channels).eval()
    with torch.no_grad():
        for tensor in (bn.weight, bn.bias, bn.running_mean):
            assert tensor is not None
            tensor.normal_()
        assert bn.running_var is not None
        bn.running_var.uniform_(0.5, 2)
        x = torch.randn(2, 4, 8, 8)
        expected = bn(conv(x))
        fold(conv, bn)
        torch.testing.assert_close(conv(x), expected, rtol=1e-5, atol=1e-5)


def test_dropout_and_identities_go_and_activations_are_not_in_place() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.Dropout(0.5), nn.ReLU(inplace=True))
    folded = trace_folded(net)
    assert [n.target for n in folded.graph.nodes if n.op == "call_module"] == ["0", "3"]
    relu = folded.get_submodule("3")
    assert isinstance(relu, nn.ReLU)
    assert not relu.inplace


def test_a_batch_norm_without_a_convolution_is_named() -> None:
    with pytest.raises(GraphError, match="'1' follows"):
        trace_folded(nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(3)))


def test_a_network_that_branches_on_data_is_named() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(GraphError, match=r"Branching cannot be traced.*branch on data"):
        trace_folded(Branching())
