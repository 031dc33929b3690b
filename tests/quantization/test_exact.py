from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_unet.quantization.exact import ACTIVATION_BITS, SCALE_MAX, SCALE_MIN, WEIGHT_BITS, cover, snap, snap_bias


def significant_bits(value: float) -> int:
    """Bits from the first to the last one that is set."""
    digits = int(math.frexp(value)[0] * 2**53)
    return 53 - (digits & -digits).bit_length() + 1


@given(st.floats(min_value=0, max_value=1e6, allow_nan=False), st.sampled_from([ACTIVATION_BITS, WEIGHT_BITS]))
def test_scales_are_short_fp16_numbers(value: float, bits: int) -> None:
    for scale in (snap(torch.tensor(value), bits).item(), cover(torch.tensor(value), bits).item()):
        assert significant_bits(scale) <= bits
        assert SCALE_MIN <= scale <= SCALE_MAX
        assert scale == float(np.float16(scale))


@given(st.floats(min_value=1e-3, max_value=1e3))
def test_snapping_is_to_the_nearest_and_covering_from_above(value: float) -> None:
    real = torch.tensor(value)
    assert abs(snap(real, WEIGHT_BITS).item() - value) <= value / 8 * (1 + 1e-6)
    assert value / 1.0011 <= cover(real, WEIGHT_BITS).item() <= value * 1.2501
    assert value / 1.19 <= cover(real, ACTIVATION_BITS).item() <= value * 1.69
    for bits in (ACTIVATION_BITS, WEIGHT_BITS):
        once = cover(real, bits)
        assert snap(once, bits) == once == cover(once, bits)


@pytest.mark.parametrize(
    ("value", "power"), [(1.0, 1.0), (1.49, 1.0), (1.5, 2.0), (0.76, 1.0), (0.74, 0.5), (6 / 127, 1 / 16)]
)
def test_powers_of_two_by_hand(value: float, power: float) -> None:
    assert snap(torch.tensor(value), ACTIVATION_BITS).item() == power


def test_a_scale_that_was_never_set_stays_nan() -> None:
    assert snap(torch.tensor(math.nan), ACTIVATION_BITS).isnan()


@given(st.floats(-60, 60), st.sampled_from([1.0, 1.25, 1.5, 1.75]), st.integers(-18, -6))
def test_biases_are_fp16_numbers_and_whole_steps(value: float, mantissa: float, exponent: int) -> None:
    step = mantissa * 2.0**exponent
    bias = snap_bias(torch.tensor([value]), torch.tensor([step])).item()
    assert (bias / step).is_integer()
    assert bias == float(np.float16(bias))
    assert abs(bias - value) <= max(step / 2, abs(value) / 256)
    again = snap_bias(torch.tensor([bias]), torch.tensor([step])).item()
    assert again == bias


def test_a_bias_of_zero_stays_zero() -> None:
    assert snap_bias(torch.zeros(2), torch.tensor([0.25, 0.375])).tolist() == [0.0, 0.0]
