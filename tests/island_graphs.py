"""Small canonical graphs around one piece: an op that the tiny network lacks, or a float island.

A piece stands between two convolutions, as it would in a network, so that what runtimes fuse across its borders is
tested with it. `PIECES` are INT8 ops, `ISLANDS` stay float.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from tiny_graph import PALETTE, GraphWriter, frames_u8

from edge_unet.canonical import Metadata, write_metadata
from edge_unet.core.spec import ClassSpec, PreprocessSpec, QuantScheme

SIZE, CHANNELS = 32, 16
"""Frame and channels; a piece sees (1, CHANNELS, SIZE / 2, SIZE / 2)."""
ISLAND = "middle.island"
BLOCK = ("middle.norm", "middle.attention")
"""The islands of `transformer`."""
REASON = "this island is there to be tested"

Piece = Callable[[GraphWriter, str], str]
"""Adds its nodes behind a quantized tensor and names its result, which has CHANNELS channels and any extent."""


def _pointwise(kind: str, **attributes: object) -> Piece:
    return lambda g, x: g.op(kind, "middle", [g.conv("before", x, CHANNELS, CHANNELS, 1, act="")], **attributes)


def _conv(kernel: int, **options: int) -> Piece:
    return lambda g, x: g.conv("middle", x, CHANNELS, CHANNELS, kernel, **options)


def dilated(g: GraphWriter, x: str) -> str:
    """3x3, dilation 2."""
    made = g.conv("middle", x, CHANNELS, CHANNELS, 3)
    g.nodes[-2][3].update(dilations=[2, 2], pads=[2] * 4)
    return made


def strip_shift(g: GraphWriter, x: str) -> str:
    """Depthwise 5x1 with one-hot kernels: a shift of whole pixels."""
    weight = np.zeros((CHANNELS, 1, 5, 1), np.float32)
    weight[np.arange(CHANNELS), 0, np.arange(CHANNELS) % 5, 0] = 1
    g.weights["middle.weight"] = weight
    return g.op(
        "Conv", "middle", [x, "middle.weight"], kernel_shape=[5, 1], strides=[1, 1], pads=[2, 0, 2, 0], group=CHANNELS
    )


def channel_max(g: GraphWriter, x: str) -> str:
    """ReduceMax over channels and its gate, as CBAM's spatial attention."""
    best = g.op("ReduceMax", "best", [x, g.constant("axis", [1])], shared=True, keepdims=1)
    gate = g.op("Sigmoid", "gate", [g.conv("mix", best, 1, 1, 7, act="")])
    return g.op("Mul", "middle", [x, gate])  # (1, C, H, W) x (1, 1, H, W)


def global_max(g: GraphWriter, x: str) -> str:
    """Max over H and W and its gate, as CBAM's channel attention."""
    best = g.op("ReduceMax", "best", [x, g.constant("axes", [2, 3])], shared=True, keepdims=1)
    gate = g.op("HardSigmoid", "gate", [g.conv("mix", best, CHANNELS, CHANNELS, 1, act="")], alpha=1 / 6, beta=0.5)
    return g.op("Mul", "middle", [x, gate])  # (1, C, H, W) x (1, C, 1, 1)


def global_max_pool(g: GraphWriter, x: str) -> str:
    """GlobalMaxPool, spread again by a nearest Resize."""
    best = g.op("GlobalMaxPool", "best", [x], shared=True)
    return g.resize("middle", best, "nearest", SIZE // 2)


def hadamard(g: GraphWriter, x: str) -> str:
    """Product of two convolutions."""
    left, right = (g.conv(name, x, CHANNELS, CHANNELS, 1) for name in ("left", "right"))
    return g.op("Mul", "middle", [left, right])


def concat_of_six(g: GraphWriter, x: str) -> str:
    """Six inputs on one scale."""
    parts = [g.conv(f"part{n}", x, CHANNELS, CHANNELS // 2, 1) for n in range(6)]
    return g.conv("join", g.op("Concat", "middle", parts, shared=True, axis=1), 3 * CHANNELS, CHANNELS, 1)


def split(g: GraphWriter, x: str) -> str:
    """Split along channels; the halves are added."""
    sizes = g.constant("sizes", [CHANNELS // 2, CHANNELS // 2])
    g.op("Split", "left", [x, sizes], shared=True, more=("right",), axis=1)
    total = g.op("Add", "total", ["left", "right"], shared=True)
    return g.conv("middle", total, CHANNELS // 2, CHANNELS, 1)


def channel_slices(g: GraphWriter, x: str) -> str:
    """Slices along channels, joined the other way round."""
    half, axis = CHANNELS // 2, g.constant("axis", [1])
    low = g.op("Slice", "low", [x, g.constant("zeroth", [0]), g.constant("half", [half]), axis], shared=True)
    high = g.op("Slice", "high", [x, "half", g.constant("all", [CHANNELS]), axis], shared=True)
    return g.op("Concat", "middle", [high, low], shared=True, axis=1)


def pool_and_spread(mode: str, factor: int) -> Piece:
    """MaxPool by a factor and back by Resize."""

    def piece(g: GraphWriter, x: str) -> str:
        low = g.op("MaxPool", "pool", [x], shared=True, kernel_shape=[factor] * 2, strides=[factor] * 2)
        deep = g.conv("deep", low, CHANNELS, CHANNELS, 1)
        return g.resize("middle", deep, mode, factor)

    return piece


PIECES: Mapping[str, Piece] = {
    "Gelu": _pointwise("Gelu"),
    "Sigmoid": _pointwise("Sigmoid"),
    "HardSwish": _pointwise("HardSwish"),
    "Tanh": _pointwise("Tanh"),
    "deconv2": lambda g, x: g.deconv("middle", x, CHANNELS, CHANNELS, 2, 0),
    "deconv4": lambda g, x: g.deconv("middle", x, CHANNELS, CHANNELS, 4, 1, act=""),
    "dilated": dilated,
    "average8": _conv(8, stride=8, groups=CHANNELS),
    "conv7": _conv(7),
    "patch4": _conv(4, stride=4),
    "grouped": _conv(1, groups=4),
    "shift": strip_shift,
    "channel max": channel_max,
    "global max": global_max,
    "GlobalMaxPool": global_max_pool,
    "Hadamard": hadamard,
    "Concat 6": concat_of_six,
    "Split": split,
    "Slice": channel_slices,
    "nearest 8": pool_and_spread("nearest", 8),
    "linear 2": pool_and_spread("linear", 2),
    "linear 4": pool_and_spread("linear", 4),
}


class Island:
    """Writes float nodes under the path ISLAND; `last` gives the result its Q/DQ pair."""

    def __init__(self, g: GraphWriter, path: str = ISLAND) -> None:
        self.g, self.path, self.count = g, path, 0

    def __call__(self, kind: str, *inputs: str, last: bool = False, **attributes: object) -> str:
        name = self.path if last else f"{self.path}.{kind}_{self.count}"
        self.count += 1
        return self.g.op(kind, name, list(inputs), silent=not last, **attributes)

    def const(self, value: object) -> str:
        """A constant of the island."""
        self.count += 1
        return self.g.constant(f"{self.path}.const_{self.count}", np.asarray(value))

    def random(self, *shape: int) -> str:
        """Normal numbers."""
        return self.const(self.g.rng.normal(0, 1, shape))


def layer_norm(g: GraphWriter, x: str, path: str = ISLAND) -> str:
    """LayerNormalization over channels of a map."""
    i = Island(g, path)
    rows = i("Transpose", x, perm=[0, 2, 3, 1])  # (1, H, W, C)
    gamma, beta = i.const(g.rng.uniform(0.5, 2, CHANNELS)), i.random(CHANNELS)
    norm = i("LayerNormalization", rows, gamma, beta, axis=-1, epsilon=1e-5)
    return i("Transpose", norm, last=True, perm=[0, 3, 1, 2])  # (1, C, H, W)


def attention(g: GraphWriter, x: str, path: str = ISLAND) -> str:
    """Two heads of attention over all places of a pooled map; the projections stand outside."""
    tokens, head = (SIZE // 4) ** 2, CHANNELS // 2
    low = g.op("MaxPool", "pool", [x], shared=True, kernel_shape=[2, 2], strides=[2, 2])
    q, k, v = (g.conv(name, low, CHANNELS, CHANNELS, 1, act="") for name in ("q", "k", "v"))
    i = Island(g, path)
    shape, back = i.const([1, 2, head, tokens]), i.const([1, CHANNELS, SIZE // 4, SIZE // 4])
    split = [i("Reshape", t, shape) for t in (q, k, v)]  # (1, heads, C / heads, T)
    rows = i("Transpose", split[0], perm=[0, 1, 3, 2])  # (1, heads, T, C / heads)
    scores = i("Mul", i("MatMul", rows, split[1]), i.const(1 / np.sqrt(head)))  # (1, heads, T, T)
    shares = i("Softmax", scores, axis=-1)
    mixed = i("MatMul", split[2], i("Transpose", shares, perm=[0, 1, 3, 2]))  # (1, heads, C / heads, T)
    return i("Reshape", mixed, back, last=True)  # (1, C, H / 2, W / 2)


def transformer(g: GraphWriter, x: str) -> str:
    """A whole block at half the extent: norm, attention, and an INT8 perceptron with Gelu, both with residuals."""
    norm, attend = BLOCK
    mixed = attention(g, layer_norm(g, x, norm), attend)
    low = g.op("MaxPool", "skip", [x], shared=True, kernel_shape=[2, 2], strides=[2, 2])
    total = g.op("Add", "total", [mixed, low], shared=True)
    wide = g.op("Gelu", "gelu", [g.conv("wide", total, CHANNELS, 2 * CHANNELS, 1, act="")])
    return g.op("Add", "middle", [g.conv("narrow", wide, 2 * CHANNELS, CHANNELS, 1, act=""), total], shared=True)


def position(g: GraphWriter, x: str) -> str:
    """A constant added to a map."""
    i = Island(g)
    return i("Add", x, i.random(1, CHANNELS, SIZE // 2, SIZE // 2), last=True)


def silu(g: GraphWriter, x: str) -> str:
    """x * sigmoid(x)."""
    i = Island(g)
    return i("Mul", x, i("Sigmoid", x), last=True)


def elementwise(g: GraphWriter, x: str) -> str:
    """Sub, Div, Neg, Exp, Log, Sqrt with broadcast constants, and a Relu that must stay where it is."""
    i = Island(g)
    small = i("Div", i("Sub", x, i.random(1, CHANNELS, 1, 1)), i.const(2.5))
    grown = i("Add", i("Exp", i("Neg", small)), i.const(1.0))
    root = i("Sqrt", i("Log", i("Add", grown, i.const(0.5))))
    return i("Mul", i("Relu", small), root, last=True)


def scan(g: GraphWriter, x: str) -> str:
    """One doubling step of a selective scan in both directions, with everything it is written with."""
    places, states = (SIZE // 2) ** 2, 4
    i = Island(g)
    row = i("Reshape", x, i.const([1, CHANNELS, places]))  # (1, C, L)
    back = i("Slice", row, i.const([-1]), i.const([-(2**62)]), i.const([2]), i.const([-1]))  # reversed
    both = i("Concat", i("Unsqueeze", row, i.const([1])), i("Unsqueeze", back, i.const([1])), axis=1)  # (1, 2, C, L)
    step = i("Softplus", i("Add", both, i.random(1, 2, CHANNELS, 1)))
    rate = i("Neg", i("Exp", i.random(1, 2, CHANNELS, 1, states)))
    decay = i("Exp", i("Mul", i("Unsqueeze", step, i.const([4])), rate))  # (1, 2, C, L, N)
    drive = i("Mul", i("Unsqueeze", i("Mul", step, both), i.const([4])), i.random(1, 2, 1, places, states))
    cut = (i.const([0]), i.const([places - 1]), i.const([3]))
    ones, zeros = (i.const(np.full((1, 2, CHANNELS, 1, states), v, np.float32)) for v in (1, 0))
    before = i("Concat", zeros, i("Slice", drive, *cut), axis=3)
    kept = i("Concat", ones, i("Slice", decay, *cut), axis=3)
    state = i("Add", i("Mul", i("Mul", decay, kept), before), drive)  # (1, 2, C, L, N)
    weights = i("Expand", i.random(1, 1, 1, 1, states), i.const([1, 2, 1, 1, states]))
    out = i("ReduceSum", i("Mul", state, weights), i.const([4]), keepdims=0)  # (1, 2, C, L)
    ahead = i("Gather", out, i.const(0), axis=1)  # (1, C, L)
    behind = i("Squeeze", i("Slice", out, i.const([1]), i.const([2]), i.const([1])), i.const([1]))
    behind = i("Slice", behind, i.const([-1]), i.const([-(2**62)]), i.const([2]), i.const([-1]))
    total = i("Add", ahead, behind)
    return i("Reshape", total, i.const([1, CHANNELS, SIZE // 2, SIZE // 2]), last=True)


def rearranged(g: GraphWriter, x: str) -> str:
    """Pad, step-2 Slices, Split, ranks up to 6, a product of activations and a step by matrix."""
    side = SIZE // 2
    i = Island(g)
    wide = i("Pad", x, i.const([0, 0, 1, 1, 0, 0, 1, 1]), i.const(np.float32(0)))
    inner = i("Slice", wide, i.const([1, 1]), i.const([side + 1, side + 1]), i.const([2, 3]), i.const([1, 1]))
    shape = i.const([1, CHANNELS, side // 2, 2, side // 2, 2])
    blocks = i("Transpose", i("Reshape", inner, shape), perm=[0, 3, 5, 2, 4, 1])
    flat = i("Reshape", blocks, i.const([4, (side // 2) ** 2, CHANNELS]))  # (4, L, C)
    even = i("Slice", flat, i.const([0]), i.const([2**62]), i.const([1]), i.const([2]))
    odd = i("Slice", flat, i.const([1]), i.const([2**62]), i.const([1]), i.const([2]))
    joined = i("Concat", even, odd, axis=1)
    first = i("Split", joined, i.const([1, 3]), more=(f"{ISLAND}.rest",), axis=0)
    joined = i("Concat", f"{ISLAND}.rest", first, axis=0)
    gram = i("MatMul", i("Transpose", joined, perm=[0, 2, 1]), joined)  # (4, C, C)
    scaled = i("MatMul", joined, i("Mul", gram, i.const(1 / 300)))  # (4, L, C)
    shape = i.const([1, 2, 2, side // 2, side // 2, CHANNELS])
    rows = i("Transpose", i("Reshape", scaled, shape), perm=[0, 5, 3, 1, 4, 2])
    return i("Reshape", rows, i.const([1, CHANNELS, side, side]), last=True)


ISLANDS: Mapping[str, Piece] = {
    "LayerNormalization": layer_norm,
    "attention": attention,
    "position": position,
    "SiLU": silu,
    "elementwise": elementwise,
    "scan": scan,
    "rearranged": rearranged,
}


def write_piece(path: Path, piece: Piece, *, seed: int = 0) -> Path:
    """The canonical ONNX of stem, piece, and a 1x1 head that is resized to the frame."""
    g = GraphWriter(SIZE, seed)
    x = piece(g, g.conv("stem", "image", 3, CHANNELS, 3, stride=2))
    x = g.conv("after", x, CHANNELS, CHANNELS, 1)
    logits = g.conv("head", x, CHANNELS, 1, 1, act="logits")
    g.share.append({logits})  # the output's scale is fixed
    model = g.finish(logits, frames_u8(4, SIZE))
    declared = [p for p in (ISLAND, *BLOCK) if any(node.name.startswith(p) for node in model.graph.node)]
    metadata = Metadata(
        name="piece", model="piece", kind="ptq", scheme=QuantScheme.PORTABLE,
        preprocess=PreprocessSpec(height=SIZE, width=SIZE), islands=dict.fromkeys(declared, REASON),
        classes=ClassSpec(names=("background", "foreground"), palette=PALETTE[:2]),
    )  # fmt: skip
    write_metadata(model, metadata)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
