from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from edge_unet.core.spec import QuantScheme
from edge_unet.quantization.fake_quant import FakeQuant, activation_quant, learned_scales, weight_quant


def calibrated(low: float, high: float, scheme: QuantScheme = QuantScheme.PORTABLE) -> FakeQuant:
    quant = activation_quant(scheme)
    quant.set_range(torch.tensor(low), torch.tensor(high))
    return quant


def test_codes_by_hand() -> None:
    quant = activation_quant(QuantScheme.PORTABLE, fixed_scale=1 / 16)
    x = torch.tensor([0.0, 1 / 32, 3 / 32, -1 / 32, 7.9375, 100.0, -100.0])
    assert quant.codes(x).tolist() == [0, 0, 2, 0, 127, 127, -128]  # halves go to even
    assert torch.equal(quant(x), quant.codes(x).float() / 16)


def test_an_affine_grid_covers_the_range_of_a_relu_with_twice_the_codes() -> None:
    portable, affine = calibrated(0.0, 6.0), calibrated(0.0, 6.0, QuantScheme.AFFINE)
    assert (portable.scale.item(), affine.scale.item()) == (1 / 16, 1 / 32)
    assert int(affine.zero_point) == 0
    assert portable.codes(torch.tensor([0.0, 6.0, 9.0])).tolist() == [0, 96, 127]
    assert affine.codes(torch.tensor([0.0, 6.0, 9.0])).tolist() == [0, 192, 255]
    signed = calibrated(-1.0, 3.0, QuantScheme.AFFINE)
    assert int(signed.zero_point) == 64
    assert signed(torch.zeros(1)).item() == 0.0


@settings(deadline=None)
@given(st.floats(-50, 50), st.floats(-50, 50), st.sampled_from(list(QuantScheme)))
def test_rounding_inside_the_range_errs_by_half_a_step_and_zero_is_exact(
    a: float, b: float, scheme: QuantScheme
) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    quant = calibrated(low, high, scheme)
    step, zero = quant.scale.item(), int(quant.zero_point)
    bottom, top = (quant.code_min - zero) * step, (quant.code_max - zero) * step
    # The power of two may clip by 2**0.25, and the zero point of an affine grid is rounded to a step.
    assert (top - bottom) * 2**0.25 + step >= high - low
    x = torch.linspace(max(low, bottom), min(high, top), 101)
    assert (quant(x) - x).abs().max().item() <= 0.5 * step + 1e-6
    assert quant(torch.zeros(1)).item() == 0.0


def reference(x: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    """LSQ written with plain autograd ops: round is straight-through, clamp lets through what rounds into range."""
    v = x / scale
    v = torch.where((v > low - 0.5) & (v < high + 0.5), v, v.detach().clamp(low, high))
    rounded = v.detach().round().clamp(low, high)
    return (v + (rounded - v).detach()) * scale


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_of_an_activation_equal_plain_autograd(channels_last: bool) -> None:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    quant = calibrated(-2.0, 2.0)
    x = (2 * torch.randn(2, 8, 6, 6)).to(memory_format=layout).requires_grad_()
    weight = torch.randn(2, 8, 6, 6).to(memory_format=layout)
    y = quant(x)
    assert y.is_contiguous(memory_format=layout)
    (y * weight).sum().backward()
    twin, scale = x.detach().clone().requires_grad_(), quant.scale.clone().requires_grad_()
    (reference(twin, scale, -128, 127) * weight).sum().backward()
    assert x.grad is not None
    assert twin.grad is not None
    assert scale.grad is not None
    torch.testing.assert_close(x.grad, twin.grad)
    assert 0 < int((x.grad == 0).sum()) < x.numel()  # some saturate
    factor = (8 * 6 * 6 * 127) ** -0.5
    expected = scale.grad * factor / quant.base
    assert quant.gain.grad is not None
    torch.testing.assert_close(quant.gain.grad, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("axis", [0, 1])
def test_gradients_of_weights_equal_plain_autograd_per_channel(axis: int) -> None:
    torch.manual_seed(1)
    weight = torch.randn(6, 4, 3, 3).requires_grad_()
    quant = weight_quant(weight, axis)
    with torch.no_grad():
        quant.gain.mul_(0.5)  # so that some weights saturate
    upstream = torch.randn(6, 4, 3, 3)
    (quant(weight) * upstream).sum().backward()
    shape = [1, 1, 1, 1]
    shape[axis] = -1
    twin, scale = weight.detach().clone().requires_grad_(), quant.scale.clone().requires_grad_()
    (reference(twin, scale.view(shape), -127, 127) * upstream).sum().backward()
    assert weight.grad is not None
    assert twin.grad is not None
    assert scale.grad is not None
    torch.testing.assert_close(weight.grad, twin.grad)
    assert 0 < int((weight.grad == 0).sum()) < weight.numel()  # some saturate
    factor = (weight.numel() // weight.shape[axis] * 127) ** -0.5
    assert quant.gain.grad is not None
    torch.testing.assert_close(quant.gain.grad, scale.grad * factor / quant.base, rtol=1e-4, atol=1e-4)


def test_weight_codes_never_reach_minus_128() -> None:
    weight = torch.randn(16, 8, 3, 3)
    quant = weight_quant(weight, 0)
    with torch.no_grad():
        quant.gain.mul_(0.3)
    codes = quant.codes(weight)
    assert (int(codes.min()), int(codes.max())) == (-127, 127)
    assert torch.equal(quant(weight), codes.float() * quant.scale.view(-1, 1, 1, 1))


def test_a_learned_scale_moves_from_one_power_of_two_to_the_next() -> None:
    quant = calibrated(-8.0, 8.0)
    frames = torch.randn(1, 4, 4, 4).clamp(-0.9, 0.9)  # an eighth of the range: a finer grid errs less
    optimiser = torch.optim.SGD(learned_scales(quant), lr=0.02)
    scales = [quant.scale.item()]
    for _ in range(200):
        optimiser.zero_grad()
        (quant(frames) - frames).square().sum().backward()
        optimiser.step()
        scales.append(quant.scale.item())
    assert scales[0] == 1 / 16
    assert scales[-1] < scales[0]
    assert all(math.frexp(scale)[0] == 0.5 for scale in scales)
    assert torch.equal(quant(quant.scale), quant.scale)


def test_fixed_scales_are_not_learned_but_pass_gradients() -> None:
    quant = activation_quant(QuantScheme.PORTABLE, fixed_scale=1 / 64)
    assert learned_scales(quant) == []
    x = torch.tensor([0.5, 100.0], requires_grad=True)
    quant(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 0.0]


def test_an_uncalibrated_quantizer_is_loud() -> None:
    quant = activation_quant(QuantScheme.PORTABLE)
    assert quant(torch.ones(3)).isnan().all()
    with pytest.raises(ValueError, match="never set"):
        quant.frozen()


def test_bfloat16_is_rounded_in_float32_and_comes_back_as_bfloat16() -> None:
    quant = calibrated(-4.0, 4.0)
    x = torch.linspace(-4, 4, 64).to(torch.bfloat16)
    assert torch.equal(quant(x), quant(x.float()).to(torch.bfloat16))


@pytest.mark.parametrize("scheme", list(QuantScheme))
def test_the_frozen_twin_computes_the_same(scheme: QuantScheme) -> None:
    quant = calibrated(-1.5, 4.0, scheme)
    x = 3 * torch.randn(1, 3, 16, 16)
    assert torch.equal(quant(x), quant.frozen()(x))
