"""Infusion: the published product, and the bounded one that keeps its range."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_unet.models.blocks import init_weights
from edge_unet.models.sdi import Infusion, Product, start_infusions


def maps(channels: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(4, channels, 32 >> level, 32 >> level, generator=generator) for level in range(4)]


def infusion(own: int, product: Product) -> Infusion:
    torch.manual_seed(0)
    made = Infusion(8, own, 4, "nearest", product)
    init_weights(made)
    start_infusions(made)
    return made


@pytest.mark.parametrize("own", range(4))
def test_plain_is_the_published_product(own: int) -> None:
    made, given = infusion(own, "plain"), maps()
    expected = torch.ones(1)
    with torch.no_grad():
        for level, (x, conv) in enumerate(zip(given, made.smooth, strict=True)):
            size = (32 >> own, 32 >> own)
            resized = functional.adaptive_avg_pool2d(x, size) if level < own else functional.interpolate(x, size)
            expected = expected * conv(resized)
        torch.testing.assert_close(made(given), expected, rtol=1e-5, atol=1e-6)


def test_gates_of_a_bounded_product_stay_in_0_to_2_around_1_and_its_own_factor_is_linear() -> None:
    made = infusion(1, "bounded").train()
    with torch.no_grad():
        factors = [s(r(x)) for s, r, x in zip(made.smooth, made.resize, maps(), strict=True)]
    for gate in (factors[0], *factors[2:]):
        assert gate.min() >= 0
        assert gate.max() <= 2
        assert gate.mean() == pytest.approx(1, abs=0.02)
        assert gate.std() == pytest.approx(0.3, abs=0.03)
    assert factors[1].min() < -2
    assert factors[1].mean() == pytest.approx(0, abs=0.02)


def sqnr_db(x: Tensor) -> float:
    """Signal over noise after int8 over the whole range, in dB."""
    step = x.abs().max() / 127
    return float(10 * torch.log10(x.square().mean() / ((x / step).round() * step - x).square().mean()))


def test_a_bounded_product_keeps_more_of_int8_than_the_plain_one() -> None:
    found: dict[Product, float] = {}
    products: tuple[Product, ...] = ("bounded", "plain")
    for product in products:
        made = infusion(0, product).train()
        with torch.no_grad():
            found[product] = sqnr_db(made(maps()))
    assert found["bounded"] > found["plain"] + 5


def test_sizes_meet_at_every_level() -> None:
    for own in range(4):
        with torch.no_grad():
            assert infusion(own, "bounded")(maps()).shape == (4, 8, 32 >> own, 32 >> own)
    assert sum(isinstance(m, nn.Hardtanh) for m in infusion(2, "bounded").modules()) == 3
