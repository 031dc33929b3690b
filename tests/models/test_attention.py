"""Attention and context blocks against their formulas, and in integers against torch."""

from __future__ import annotations

import pytest
import torch
from network_checks import Exported, exported, heads_of, pictures, quantized
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.canonical.rules import check_canonical
from edge_unet.core.recipe import ModelSpec
from edge_unet.models.attention import (
    Aspp,
    AttentionGate,
    ChannelAttention,
    EfficientChannelAttention,
    PyramidPooling,
    SpatialAttention,
)
from edge_unet.models.blocks import conv_bn, init_head, init_weights, logit_clip, upsample
from edge_unet.models.norm import ChannelNorm
from edge_unet.quantization.fold import trace_folded

CHANNELS = 16
ANY = ModelSpec(name="unet", depth=2)  # only its recipe's size and normalisation are read


@pytest.fixture
def x() -> Tensor:
    """(2, 16, 8, 8)"""
    return torch.randn(2, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(0))


def trained_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def test_channel_attention_is_the_shared_mlp_on_mean_and_maximum(x: Tensor) -> None:
    gate = ChannelAttention(CHANNELS, reduction=4)
    inner, outer = gate.squeeze.weight[:, :, 0, 0], gate.expand.weight[:, :, 0, 0]
    mean, peak = (torch.relu(v @ inner.T) @ outer.T for v in (x.mean((2, 3)), x.flatten(2).max(2).values))
    torch.testing.assert_close(gate(x)[:, :, 0, 0], torch.sigmoid(mean + peak), rtol=1e-5, atol=1e-6)
    assert trained_parameters(gate) == 2 * CHANNELS * 4
    assert gate.squeeze.bias is None
    assert gate.expand.bias is None
    assert ChannelAttention(8, reduction=16)(x[:, :8]).shape == (2, 8, 1, 1)


def test_spatial_attention_is_a_7x7_conv_on_mean_and_maximum(x: Tensor) -> None:
    gate = SpatialAttention(CHANNELS)
    maps = torch.stack((x.mean(1), x.max(1).values), dim=1)
    expected = torch.sigmoid(functional.conv2d(maps, gate.conv.weight, padding=3))
    torch.testing.assert_close(gate(x), expected, rtol=1e-5, atol=1e-5)
    assert trained_parameters(gate) == 2 * 49


# k = |log2(C) / 2 + 1/2|, made odd: the paper's table of stages.
@pytest.mark.parametrize(("channels", "kernel"), [(16, 3), (64, 3), (128, 5), (256, 5), (512, 5), (2048, 7)])
def test_eca_is_a_conv1d_over_channels(channels: int, kernel: int) -> None:
    gate = EfficientChannelAttention(channels)
    assert trained_parameters(gate) == kernel
    x = torch.randn(2, channels, 4, 4)
    row = functional.conv1d(x.mean((2, 3))[:, None], gate.conv.weight[:, :, :, 0], padding=kernel // 2)
    torch.testing.assert_close(gate(x)[:, :, 0, 0], torch.sigmoid(row[:, 0]), rtol=1e-5, atol=1e-6)


def test_the_attention_gate_is_additive(x: Tensor) -> None:
    gate = AttentionGate(CHANNELS, 4, 8).eval()
    skip = torch.randn(2, 4, 8, 8)
    gain = (1 + 1e-5) ** -0.5  # a fresh BN
    both = functional.conv2d(x, gate.from_gating[0].weight) + functional.conv2d(skip, gate.from_skip[0].weight)
    psi = functional.conv2d((both * gain).clamp(0, 6), gate.psi[0].weight) * gain
    torch.testing.assert_close(gate(x, skip), torch.sigmoid(psi), rtol=1e-4, atol=1e-5)


def test_aspp_joins_its_rates_and_the_mean_of_the_image(x: Tensor) -> None:
    block = Aspp(CHANNELS, 6, (1, 2, 3)).eval()
    seen: list[Tensor] = []
    block.project.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert block(x).shape == (2, 6, 8, 8)
    plain, *dilated, image = seen[0].split(6, dim=1)
    gain = (1 + 1e-5) ** -0.5
    torch.testing.assert_close(plain, (functional.conv2d(x, block.branches[0][0].weight) * gain).clamp(0, 6))  # type: ignore[index]
    for rate, branch, found in zip((1, 2, 3), block.branches[1:], dilated, strict=True):
        straight = functional.conv2d(x, branch[0].weight, padding=rate, dilation=rate)  # type: ignore[index]
        torch.testing.assert_close(found, (straight * gain).clamp(0, 6))
    # DeepLab resizes the pooled pixel bilinearly: of one pixel that is repetition.
    pooled = functional.conv2d(functional.adaptive_avg_pool2d(x, 1), block.image[1].weight, block.image[1].bias)
    torch.testing.assert_close(image, functional.interpolate(pooled.clamp(0, 6), size=(8, 8), mode="bilinear"))


def test_pyramid_pooling_is_the_adaptive_one_where_bins_are_even(x: Tensor) -> None:
    block = PyramidPooling(CHANNELS, 4, (2, 4)).eval()
    seen: list[Tensor] = []
    block.project.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    assert block(x).shape == (2, 4, 8, 8)
    kept, *found = seen[0].split((CHANNELS, 4, 4), dim=1)
    assert torch.equal(kept, x)
    for bins, branch, made in zip((4, 2), block.branches, found, strict=True):
        pooled = branch[1](functional.adaptive_avg_pool2d(x, bins))  # type: ignore[index]
        torch.testing.assert_close(made, functional.interpolate(pooled, size=(8, 8), mode="nearest"))
    trained = {n for n, p in block.named_parameters() if p.requires_grad}
    assert not any(n.startswith("branches") and n.split(".")[2] == "0" for n in trained)


def test_channel_norm_is_a_layer_norm_over_channels(x: Tensor) -> None:
    norm = ChannelNorm(CHANNELS, eps=1e-6)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.uniform_(-1, 1)
    spread = (x.double().var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    expected = (x.double() - x.double().mean(1, keepdim=True)) / spread
    expected = expected * norm.weight.double().view(1, -1, 1, 1) + norm.bias.double().view(1, -1, 1, 1)
    torch.testing.assert_close(norm(x).double(), expected, rtol=1e-5, atol=1e-5)


class Every(nn.Module):
    """All blocks in a row between a stem at 1/4 and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_bn(3, CHANNELS, 3, 2), conv_bn(CHANNELS, CHANNELS, 3, 2))
        self.channel, self.spatial = ChannelAttention(CHANNELS, 4), SpatialAttention(CHANNELS)
        self.eca, self.norm = EfficientChannelAttention(CHANNELS), ChannelNorm(CHANNELS)
        self.aspp, self.pyramid = Aspp(CHANNELS, 8, (1, 2, 3)), PyramidPooling(8, 8, (2, 4, 8))
        self.gate = AttentionGate(8, CHANNELS, 8)
        self.head, self.clip, self.resize = nn.Conv2d(CHANNELS, 1, 1), logit_clip(), upsample("bilinear", 4)
        init_weights(self)
        init_head(self.head)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 1, H, W)."""
        x = self.stem(x)  # (N, 16, H/4, W/4)
        x = x * self.channel(x)
        x = x * self.spatial(x)
        skip = self.norm(x * self.eca(x))
        y = self.pyramid(self.aspp(skip))  # (N, 8, H/4, W/4)
        logits: Tensor = self.resize(self.clip(self.head(skip * self.gate(y, skip))))  # (N, 1, H, W)
        return logits


@pytest.fixture(scope="module")
def every() -> nn.Module:
    torch.manual_seed(0)
    net = Every().train()
    with torch.no_grad():
        for _ in range(30):
            net(pictures())
    return net.eval()


@pytest.fixture(scope="module")
def file(every: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(quantized(every, ANY), ANY, tmp_path_factory.mktemp("every"))


def test_every_block_gets_a_gradient() -> None:
    torch.manual_seed(0)
    net = Every().train()
    net(pictures()).square().sum().backward()
    silent = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert silent == []


def test_every_block_folds(every: nn.Module) -> None:
    (folded,), (plain,) = heads_of(trace_folded(every), pictures()), heads_of(every, pictures())
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_every_block_is_int8_but_the_norm(file: Exported) -> None:
    assert check_canonical(file.graph) == ()
    assert set(file.graph.metadata.islands) == {"norm"}
    assert file.undeclared == []
    assert {"GlobalAveragePool", "ReduceMax", "Sigmoid", "Transpose", "Mul"} <= file.integer_ops
    dilations = {tuple(n.attributes["dilations"]) for n in file.graph.nodes if n.op == "Conv" and "aspp" in n.name}
    assert dilations == {(1, 1), (2, 2), (3, 3)}


def test_every_block_gives_the_codes_of_torch(file: Exported) -> None:
    # A float LayerNorm and a mean of 256 codes may round a value on the edge of two the other way.
    assert (file.lsb > 0).mean() < 1e-3
