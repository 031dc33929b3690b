"""Small networks whose BN statistics and weights are like those of a trained one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edge_unet.core.recipe import ModelSpec, QuantizeSpec, Recipe
from edge_unet.core.spec import PreprocessSpec, QuantScheme
from edge_unet.models import build

MODELS = {
    "mobile_unet": ModelSpec(name="mobile_unet", width=0.25, depth=3),
    "unet": ModelSpec(name="unet", base=8, depth=3, upsample="bilinear"),
}


@pytest.fixture(scope="session")
def frames_real() -> Tensor:
    """(4, 3, 64, 64) smooth pictures on the input grid."""
    generator = torch.Generator().manual_seed(5)
    coarse = torch.rand(4, 3, 8, 8, generator=generator) * 255
    pixels = nn.functional.interpolate(coarse, size=64, mode="bilinear").round()
    return (pixels - 128) / 64  # (4, 3, 64, 64)


@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., Recipe]:
    """make_recipe(model name, scheme) -> a 64x64 recipe."""

    def make(name: str, scheme: QuantScheme = QuantScheme.PORTABLE) -> Recipe:
        frame = PreprocessSpec(height=64, width=64)
        return Recipe(model=MODELS[name], preprocess=frame, quantize=QuantizeSpec(scheme=scheme))

    return make


@pytest.fixture(scope="session")
def make_net(frames_real: Tensor) -> Callable[[Recipe], nn.Module]:
    """make_net(recipe) -> the float network in eval mode, BN statistics measured and biases away from zero."""

    def make(recipe: Recipe) -> nn.Module:
        torch.manual_seed(0)
        net = build(recipe).train()
        with torch.no_grad():
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.uniform_(0.7, 1.3)
                    module.bias.uniform_(-0.3, 0.6)
            for _ in range(20):
                net(frames_real)
        return net.eval()

    return make
