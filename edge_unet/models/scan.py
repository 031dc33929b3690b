"""The selective scan as a fixed graph of slices, products and sums: no loop, no running sum, no division.

h_t = decay_t * h_{t-1} + drive_t, every decay in 0..1. Inside chunks of CHUNK steps the recurrence is written out, all
chunks at once; the states at the chunks' ends are joined by doubling (Hillis and Steele 1986) and carried back in. All
factors are products of decays, so nothing overflows at any step size, unlike forms with exp(S) * cumsum(b * exp(-S)),
which are NaN at L = 256 (docs/decisions/0011). Time is the first axis: a slice is then one block of memory.

`state_space_dual` is Mamba-2's form (Dao and Gu 2024): one decay per head instead of one per channel and state, which
turns the work inside a chunk into matrix products.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK = 8
"""Steps written out (docs/decisions/0011)."""
DUAL_CHUNK = 16
"""The same for the dual form, whose work inside a chunk is quadratic."""

Recurrence = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(decay, drive, axis) -> (products of the decays so far, states), shapes as given."""


def chunk_length(length: int, longest: int = CHUNK) -> int:
    """The largest divisor of `length` that is at most `longest`: no padding anywhere."""
    return max(t for t in range(1, min(length, longest) + 1) if length % t == 0)


def by_doubling(decay: Tensor, drive: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """log2(length) rounds over the whole axis; after round k each state has 2**k terms."""
    length, step = decay.shape[axis], 1
    while step < length:
        rest = length - step
        later = decay.narrow(axis, step, rest)
        drive = torch.cat(
            (drive.narrow(axis, 0, step), drive.narrow(axis, step, rest) + later * drive.narrow(axis, 0, rest)), axis
        )
        decay = torch.cat((decay.narrow(axis, 0, step), later * decay.narrow(axis, 0, rest)), axis)
        step *= 2
    return decay, drive


def by_steps(decay: Tensor, drive: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """One step after the other, written out."""
    factors, states = [decay.narrow(axis, 0, 1)], [drive.narrow(axis, 0, 1)]
    for t in range(1, decay.shape[axis]):
        factor = decay.narrow(axis, t, 1)
        states.append(factor * states[-1] + drive.narrow(axis, t, 1))
        factors.append(factor * factors[-1])
    return torch.cat(factors, axis), torch.cat(states, axis)


def linear_recurrence(decay: Tensor, drive: Tensor, chunk: int, within: Recurrence = by_steps) -> Tensor:
    """h_t = decay_t * h_{t-1} + drive_t with h_{-1} = 0. (L, M), (L, M) -> (L, M); `chunk` divides L."""
    length, width = decay.shape
    if chunk == 1:
        return by_doubling(decay, drive, 0)[1]
    if chunk == length:
        return within(decay, drive, 0)[1]
    factors, states = within(decay.reshape(-1, chunk, width), drive.reshape(-1, chunk, width), 1)  # (G, T, M)
    to_end, end = (v.narrow(1, chunk - 1, 1).reshape(-1, width) for v in (factors, states))  # (G, M)
    ends = by_doubling(to_end, end, 0)[1]
    carried = torch.cat((torch.zeros_like(ends[:1]), ends[:-1]), 0).unsqueeze(1)  # (G, 1, M): the state before a chunk
    return (states + factors * carried).reshape(length, width)


def selective_scan(
    u: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, longest: int = CHUNK, within: Recurrence = by_steps
) -> Tensor:
    """h_t = exp(dt_t * a) h_{t-1} + dt_t * b_t * u_t, y_t = c_t . h_t, for K independent scans (Gu and Dao 2023).

    u, dt (L, N, K, D), dt >= 0; a (K, S, D), a <= 0; b, c (L, N, K, S) -> (L, N, K, D). S is the size of the state.
    """
    length = u.shape[0]
    decay = torch.exp(dt.unsqueeze(3) * a)  # (L, N, K, S, D)
    drive = (dt * u).unsqueeze(3) * b.unsqueeze(4)  # (L, N, K, S, D)
    flat = decay.reshape(length, -1), drive.reshape(length, -1)  # (L, N * K * S * D)
    states = linear_recurrence(*flat, chunk_length(length, longest), within).reshape(drive.shape)
    return (states * c.unsqueeze(4)).sum(dim=3)  # (L, N, K, D)


def segment_sums(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over segments, by doubling: x (..., T) -> sums (..., T, T) with [t, s] = x_{s+1} + ... + x_t, and the mask
    (T, T) of s <= t, outside of which a sum is 0.

    Each is a sum of its own terms: the difference of two running sums would lose the digits that they share.
    """
    length, step = x.shape[-1], 1
    mask = torch.ones(length, length, dtype=x.dtype, device=x.device).tril()
    sums = x.unsqueeze(-1) * (mask - torch.eye(length, dtype=x.dtype, device=x.device))  # (..., T, T)
    while step < length:
        rest = length - step
        sums = torch.cat((sums.narrow(-2, 0, step), sums.narrow(-2, step, rest) + sums.narrow(-2, 0, rest)), -2)
        step *= 2
    return sums, mask


def state_space_dual(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, longest: int = DUAL_CHUNK) -> Tensor:
    """The scan with one decay per head: h_t = exp(dt_t * a) h_{t-1} + dt_t * b_t x_t^T, y_t = c_t h_t.

    x (M, J, L, P) for J heads of P channels, dt (M, J, L) >= 0, a (M, J, 1) <= 0, b, c (M, L, S), shared by the heads
    -> (M, J, L, P). Every factor is exp of a sum of terms <= 0, times a constant mask.
    """
    scans, heads, length, width = x.shape
    chunk = chunk_length(length, longest)
    split = (scans, heads, length // chunk, chunk)
    rates = (dt * a).reshape(split)  # (M, J, G, T)
    sums, mask = segment_sums(rates)  # (M, J, G, T, T)
    decay = torch.exp(sums) * mask
    driven = (x * dt.unsqueeze(-1)).reshape(*split, width)  # (M, J, G, T, P)
    inputs, outputs = (v.reshape(scans, 1, length // chunk, chunk, -1) for v in (b, c))  # (M, 1, G, T, S)
    y = (outputs @ inputs.transpose(-1, -2) * decay) @ driven  # (M, J, G, T, P)
    if chunk < length:
        to_end = decay.narrow(-2, chunk - 1, 1).transpose(-1, -2)  # (M, J, G, T, 1): from a step to its chunk's end
        ends = inputs.transpose(-1, -2) @ (driven * to_end)  # (M, J, G, S, P)
        since = sums.narrow(-1, 0, 1) + rates.narrow(-1, 0, 1).unsqueeze(-1)  # (M, J, G, T, 1): all steps up to t
        whole = since.narrow(-2, chunk - 1, 1).reshape(scans, heads, -1)  # (M, J, G)
        y = y + (outputs @ _carried(ends, whole)) * torch.exp(since)
    return y.reshape(scans, heads, length, width)


def _carried(ends: Tensor, rates: Tensor) -> Tensor:
    """The state before each chunk: what the chunks before it end with (M, J, G, S, P), decayed by rates (M, J, G)."""
    scans, heads, chunks, states, width = ends.shape
    sums, mask = segment_sums(rates)  # (M, J, G, G)
    joined = (torch.exp(sums) * mask) @ ends.reshape(scans, heads, chunks, states * width)  # (M, J, G, S * P)
    before = torch.cat((torch.zeros_like(joined[:, :, :1]), joined[:, :, :-1]), 2)
    return before.reshape(ends.shape)
