"""UNeXt: its shifts and linears as convolutions are those of the paper's code; LayerNorm is an island."""

from __future__ import annotations

import pytest
import torch
from network_checks import (
    recipe_of,
)
from torch import Tensor
from torch.nn import functional

from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import build_whole
from edge_unet.models.unext import TokenBlock, channel_shift


def rolled(x: Tensor, dim: int) -> Tensor:
    """The shift as the paper states it: pad, roll each of five chunks, cut."""
    padded = functional.pad(x, (2, 2, 2, 2))
    chunks = [torch.roll(c, s, dim) for c, s in zip(padded.chunk(5, 1), range(-2, 3), strict=True)]
    return torch.cat(chunks, 1)[:, :, 2:-2, 2:-2]


@pytest.mark.parametrize("channels", [160, 256, 128, 32])
def test_a_shift_is_a_roll_with_zeros(channels: int) -> None:
    x = torch.randn(2, channels, 6, 7)
    assert torch.equal(channel_shift(channels, "height")(x), rolled(x, 2))
    assert torch.equal(channel_shift(channels, "width")(x), rolled(x, 3))
    assert not channel_shift(channels, "width").weight.requires_grad


def test_a_token_block_is_the_papers_on_tokens() -> None:
    torch.manual_seed(0)
    block, linear = TokenBlock(20).eval(), functional.linear
    with torch.no_grad():
        block.norm.weight.uniform_(0.5, 1.5)
        block.norm.bias.uniform_(-1, 1)
    x = torch.randn(2, 20, 4, 6)

    def tokens(image: Tensor) -> Tensor:
        return image.flatten(2).transpose(1, 2)

    def image(sequence: Tensor) -> Tensor:
        return sequence.transpose(1, 2).reshape(2, 20, 4, 6)

    normed = functional.layer_norm(tokens(x), (20,), block.norm.weight, block.norm.bias)
    y = linear(tokens(rolled(image(normed), 2)), block.first.weight[:, :, 0, 0], block.first.bias)
    y = tokens(functional.conv2d(image(y), block.depthwise.weight, block.depthwise.bias, padding=1, groups=20))
    y = tokens(rolled(image(functional.gelu(y)), 3))
    expected = image(tokens(x) + linear(y, block.second.weight[:, :, 0, 0], block.second.bias))
    torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)


def test_pooling_after_the_activation_is_the_papers_order() -> None:
    x = torch.randn(2, 4, 8, 8) * 5
    pooled = functional.max_pool2d(x, 2)
    assert torch.equal(functional.max_pool2d(functional.relu6(x), 2), functional.relu6(pooled))


@pytest.mark.parametrize("values", [{"variant": "l"}, {"depth": 4}])
def test_a_size_that_does_not_exist_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="unext has variants '', 's' at depth 5, received"):
        build_whole(recipe_of(ModelSpec.model_validate({"name": "unext", "upsample": "bilinear", **values})))
