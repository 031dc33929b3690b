"""TransUNet: as large as published, trainable at other sizes than its own, and exact as a canonical file."""

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
from torch import nn

from edge_unet.canonical.rules import check_canonical
from edge_unet.core.errors import UsageError
from edge_unet.core.recipe import ModelSpec
from edge_unet.models import PRESETS, build, build_whole
from edge_unet.models.islands import islands_of, trace
from edge_unet.models.transunet import VitBlock
from edge_unet.quantization.fold import trace_folded

TINY = PRESETS["transunet-tiny"]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return settled(TINY)


@pytest.fixture(scope="module")
def file(net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported(quantized(net, TINY), TINY, tmp_path_factory.mktemp("transunet"))


@pytest.mark.parametrize(
    ("preset", "size", "parameters", "macs"),
    [
        ("transunet-b16", 224, 105.28e6, 29.23e9),  # counted from the official code at 9 classes
        ("transunet-b16", 256, 105.32e6, 38.38e9),
        ("transunet-tiny", 256, 253_521, 0.4450e9),
    ],
)
def test_size(preset: str, size: int, parameters: float, macs: float) -> None:
    found, multiplied = cost(PRESETS[preset], size)
    assert found == pytest.approx(parameters, rel=1e-3)
    assert multiplied == pytest.approx(macs, rel=1e-2)


def test_full_size_logits_and_a_gradient_everywhere() -> None:
    assert build(recipe_of(TINY)).train()(pictures(2)).shape == (2, 1, SIZE, SIZE)
    assert silent_parameters(TINY) == []


def test_a_block_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours = VitBlock(32, 4, 2)
    theirs = nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
    copied = {
        "self_attn.in_proj_": ("query", "key", "value"),
        "self_attn.out_proj.": ("project",),
        "linear1.": ("feed.1",),
        "linear2.": ("feed.3",),
    }
    with torch.no_grad():
        for weight in ours.parameters():
            weight.add_(torch.randn_like(weight) * 0.3)
        for name, layers in copied.items():
            weights = [ours.get_parameter(f"{layer}.weight").flatten(1) for layer in layers]
            theirs.get_parameter(f"{name}weight").copy_(torch.cat(weights))
            theirs.get_parameter(f"{name}bias").copy_(torch.cat([ours.get_parameter(f"{n}.bias") for n in layers]))
        for name, norm in (("norm1", "norm"), ("norm2", "feed.0")):
            for part in ("weight", "bias"):
                theirs.get_parameter(f"{name}.{part}").copy_(ours.get_parameter(f"{norm}.{part}"))
        x = torch.randn(2, 32, 3, 5)
        expected = theirs(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(2, 32, 3, 5)
        torch.testing.assert_close(ours(x), expected, rtol=1e-4, atol=1e-5)


def test_the_position_embedding_has_the_recipes_grid_and_other_sizes_run() -> None:
    spec = recipe_of(TINY)
    wide = spec.model_copy(update={"preprocess": spec.preprocess.model_copy(update={"width": 96})})
    net = build_whole(wide)
    assert net.get_parameter("position.embedding").shape == (1, 64, 4, 6)
    assert heads_of(net, torch.zeros(1, 3, 32, 128))[0].shape == (1, 1, 32, 128)


def test_folded_and_plain_are_one_function(net: nn.Module) -> None:
    torch.testing.assert_close(
        heads_of(trace_folded(net), pictures())[0], heads_of(net, pictures())[0], rtol=1e-4, atol=1e-4
    )


def test_the_file_keeps_every_rule_and_only_islands_are_float(file: Exported, net: nn.Module) -> None:
    assert check_canonical(file.graph) == ()
    assert file.graph.metadata.islands == islands_of(trace(net))
    assert file.float_ops == {"Add", "Transpose", "Reshape", "LayerNormalization", "Mul", "MatMul", "Softmax"}
    assert file.undeclared == []
    positions = [n for n in file.graph.nodes if file.graph.island(n) == "position"]
    assert [n.op for n in positions] == ["Add"]


def test_the_file_gives_the_logits_of_torch(file: Exported) -> None:
    assert file.lsb.max() <= 1
    assert (file.lsb == 0).mean() >= 0.999


def test_training_starts_to_learn() -> None:
    losses = losses_on_scenes(TINY, 24)
    assert np.mean(losses[-4:]) < 0.75 * np.mean(losses[:2])


def test_what_it_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown transunet variant 'b32'"):
        build(recipe_of(ModelSpec(name="transunet", variant="b32", depth=4)))
    with pytest.raises(UsageError, match="nearest or bilinear"):
        build(recipe_of(ModelSpec(name="transunet", depth=4, upsample="deconv")))
