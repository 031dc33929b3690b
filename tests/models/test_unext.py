"""UNeXt: its shifts and linears as convolutions are those of the paper's code; LayerNorm is an island."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from network_checks import (
    SIZE,
    Exported,
    cost,
    exported,
    heads_of,
    losses_on_scenes,
    pictures,
    quantized,
    recipe_of,
    settled,
    silent_parameters,
)
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.canonical.rules import check_canonical
from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build_whole
from edge_unet.models.unext import TokenBlock, channel_shift
from edge_unet.quantization.fold import trace_folded

SLIM = PRESETS["unext-s"]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return settled(SLIM)


@pytest.fixture(scope="module")
def file(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(quantized(net, SLIM), SLIM, tmp_path_factory.mktemp("unext"))


@pytest.mark.parametrize(
    ("preset", "parameters", "macs"), [("unext", 1.472e6, 0.562e9), ("unext-s", 0.2536e6, 0.0992e9)]
)
def test_size(preset: str, parameters: float, macs: float) -> None:
    found, multiplied = cost(PRESETS[preset])
    assert found == pytest.approx(parameters, rel=1e-2)
    assert multiplied == pytest.approx(macs, rel=1e-2)  # the shifts count as multiplications here


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


def test_one_full_size_result_and_a_gradient_everywhere() -> None:
    found = build_whole(recipe_of(SLIM)).train()(pictures(2))
    assert found.shape == (2, 1, SIZE, SIZE)
    assert silent_parameters(SLIM) == []


def test_folded_and_plain_are_one_function(net: nn.Module) -> None:
    (folded,), (plain,) = heads_of(trace_folded(net), pictures()), heads_of(net, pictures())
    torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-4)


def test_only_the_norms_are_float(file: Exported) -> None:
    assert check_canonical(file.graph) == ()
    assert file.float_ops == {"LayerNormalization", "Transpose"}
    assert len(file.graph.metadata.islands) == 10  # embed and after each stage: 2 + 4; in each block: 4
    assert file.undeclared == []
    assert "Gelu" in file.integer_ops


def test_the_file_is_that_of_torch(file: Exported) -> None:
    # A float LayerNorm may round a value on the edge of two codes the other way.
    assert (file.lsb > 0).mean() < 1e-3


def test_training_starts_to_learn() -> None:
    losses = losses_on_scenes(SLIM, 24)
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:2])


@pytest.mark.parametrize("values", [{"variant": "l"}, {"depth": 4}])
def test_a_size_that_does_not_exist_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="unext has variants '', 's' at depth 5, received"):
        build_whole(recipe_of(ModelSpec.model_validate({"name": "unext", "upsample": "bilinear", **values})))
