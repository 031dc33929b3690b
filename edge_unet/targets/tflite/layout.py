"""How a tensor lies in the file: which ONNX axis is which axis there.

A Transpose of the graph moves no number: its result is the same tensor in another order. A TRANSPOSE goes into the
file only where an op needs an order in which its tensor does not lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

Order = tuple[int, ...]
"""order[k] is the ONNX axis that lies at axis k of the file."""
Shape = tuple[int, ...]

NHWC: Order = (0, 2, 3, 1)
"""The order of images."""


def plain(rank: int) -> Order:
    """The order of the ONNX graph itself."""
    return tuple(range(rank))


def lying(shape: Sequence[int], order: Order) -> Shape:
    """ONNX shape -> shape in the file."""
    return tuple(shape[axis] for axis in order)


def standing(shape: Sequence[int], order: Order) -> Shape:
    """Shape in the file -> ONNX shape."""
    return tuple(shape[order.index(axis)] for axis in range(len(order)))


def moves(have: Order, want: Order) -> Order:
    """The permutation that a TRANSPOSE needs to bring a tensor from one order to the other."""
    return tuple(have.index(axis) for axis in want)


def transposed(order: Order, permutation: Sequence[int]) -> Order:
    """The order of an ONNX Transpose's result where no number is moved."""
    return tuple(list(permutation).index(axis) for axis in order)


def same_bytes(shape: Sequence[int], have: Order, want: Order) -> bool:
    """Whether the two orders differ in axes of size 1 only. `shape` is the ONNX one."""
    return [a for a in have if shape[a] != 1] == [a for a in want if shape[a] != 1]


def last(order: Order, axis: int) -> Order:
    """`order` with ONNX axis `axis` moved to the end."""
    return (*(other for other in order if other != axis), axis)


def reshaped(shape: Sequence[int], order: Order, result: Sequence[int]) -> Order | None:
    """The order in which an ONNX Reshape from `shape` to `result` leaves the bytes of a tensor that lies in `order`;
    None where numbers must move first (an axis is split or joined across others)."""
    lies = [axis for axis in order if shape[axis] != 1]
    groups = {ins[0]: (ins, outs) for ins, outs in _groups(shape, result)}
    found: list[int] = []
    while lies:
        ins, outs = groups.get(lies[0], ([], []))
        if not ins or lies[: len(ins)] != ins:
            return None
        found += outs
        lies = lies[len(ins) :]
    candidates = [NHWC, plain(len(result))] if len(result) == 4 else [plain(len(result))]
    for candidate in candidates if order != plain(len(order)) else reversed(candidates):
        if [axis for axis in candidate if result[axis] != 1] == found:
            return candidate
    return (*(axis for axis, size in enumerate(result) if size == 1), *found)


def _groups(shape: Sequence[int], result: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest runs of axes of two shapes that hold the same numbers, axes of size 1 left out."""
    left, right = ([axis for axis, size in enumerate(sizes) if size != 1] for sizes in (shape, result))
    groups = []
    while left:
        ins, outs = [left.pop(0)], [right.pop(0)]
        while (a := prod(shape[i] for i in ins)) != (b := prod(result[i] for i in outs)):
            if a < b:
                ins.append(left.pop(0))
            else:
                outs.append(right.pop(0))
        groups.append((ins, outs))
    return groups


def joined_moves(shape: Sequence[int], permutation: Order) -> tuple[Shape, Order]:
    """The same transposition of a tensor of lower rank: axes of size 1 left out, neighbours that stay together
    joined. `shape` is that in front of it."""
    kept = [axis for axis in permutation if shape[axis] != 1]
    runs: list[list[int]] = []
    following = dict(pairwise(sorted(kept)))
    for axis in kept:
        if runs and following.get(runs[-1][-1]) == axis:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    firsts = sorted(run[0] for run in runs)
    sizes = {run[0]: prod(shape[axis] for axis in run) for run in runs}
    return tuple(sizes[first] for first in firsts), tuple(firsts.index(run[0]) for run in runs)


def joined_axes(shape: Sequence[int], touched: Sequence[int]) -> tuple[Shape, tuple[int, ...]]:
    """A shape of lower rank: every run of axes outside `touched` is one axis. And where the touched ones are."""
    sizes: list[int] = []
    places: list[int] = []
    open_run = False
    for axis, size in enumerate(shape):
        if axis in touched:
            places.append(len(sizes))
            sizes.append(size)
            open_run = False
        elif open_run:
            sizes[-1] *= size
        else:
            sizes.append(size)
            open_run = True
    return tuple(sizes), tuple(places)
