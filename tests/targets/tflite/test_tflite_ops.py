"""Every op of the table, alone, int8 against the reference session and float32 against the float twin.

Int8 kernels round products with fixed-point multipliers and may be off by one code per rounding; the bound of each
case is the number of roundings that its lowering makes. Float32 is the same arithmetic in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from island_graphs import ISLANDS, PIECES, write_piece
from one_op_graph import SIZE, OneOp

from edge_unet.canonical import load_graph, strip_qdq
from edge_unet.core.artifact import Artifact
from edge_unet.core.errors import GraphError
from edge_unet.core.spec import Precision, logits_from_output
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.tflite import ANDROID, open_session
from edge_unet.targets.tflite.interpreter import Kernels
from edge_unet.targets.tflite.ops import OPS

RNG = np.random.default_rng(3)


def _conv(stride: int = 1, pad: int = 1, groups: int = 1, cout: int = 6, dilation: int = 1, k: int = 3) -> OneOp:
    g = OneOp()
    w = g.weight("w", RNG.normal(0, 0.3, (cout, 3 // groups, k, k)), 0)
    g.constants["b"] = RNG.normal(0, 0.5, cout).astype(np.float32)
    return g.op(
        "Conv", "y", [g.last, w, "b"], 0.05, kernel_shape=[k, k], strides=[stride] * 2, pads=[pad] * 4,
        dilations=[dilation] * 2, group=groups,
    )  # fmt: skip


def _conv_activation(kind: str, high: float = 6, scale: float = 0.0234375) -> OneOp:
    g = OneOp()
    w = g.weight("w", RNG.normal(0, 0.5, (4, 3, 1, 1)), 0)
    g.op("Conv", "c", [g.last, w], None)
    g.constants |= {"lo": np.array(0, np.float32), "hi": np.array(high, np.float32)}
    return g.op(kind, "y", ["c"] if kind == "Relu" else ["c", "lo", "hi"], scale)


def _transposed(k: int, pad: int) -> OneOp:
    g = OneOp()
    w = g.weight("w", RNG.normal(0, 0.3, (3, 4, k, k)), 1)
    g.constants["b"] = RNG.normal(0, 0.5, 4).astype(np.float32)
    return g.op("ConvTranspose", "y", [g.last, w, "b"], 0.05, kernel_shape=[k, k], strides=[2, 2], pads=[pad] * 4)


def _unary(kind: str, scale: float = 1 / 64, **attributes: Any) -> OneOp:
    g = OneOp()
    return g.op(kind, "y", [g.last], scale, **attributes)


def _with_constants(kind: str, arrays: dict[str, Any], scale: float, empty: int = 0, **attributes: Any) -> OneOp:
    g = OneOp()
    g.constants |= {name: np.asarray(value) for name, value in arrays.items()}
    return g.op(kind, "y", [g.last, *[""] * empty, *arrays], scale, **attributes)


def _binary(kind: str, scale: float) -> OneOp:
    g = OneOp()
    x = g.last
    g.op("HardSigmoid", "h", [x], 1 / 127, alpha=1 / 6, beta=0.5)
    return g.op(kind, "y", [x, g.last], scale)


def _gate() -> OneOp:
    g = OneOp()
    x = g.last
    g.op("GlobalAveragePool", "pool", [x], 1 / 64).op("Sigmoid", "gate", [g.last], 1 / 127)
    return g.op("Mul", "y", [x, g.last], 1 / 64)


def _concat() -> OneOp:
    g = OneOp()
    x = g.last
    g.op("MaxPool", "half", [x], 1 / 64, kernel_shape=[1, 1], strides=[1, 1])
    return g.op("Concat", "y", [x, g.last], 1 / 64, axis=1)


def _tokens() -> OneOp:
    g = OneOp()
    g.constants |= {"flat": np.array([1, 3, SIZE * SIZE]), "back": np.array([1, 4, SIZE, SIZE])}
    g.op("Reshape", "r", [g.last, "flat"], 1 / 64).op("Transpose", "t", [g.last], 1 / 64, perm=[0, 2, 1])
    tokens = g.last  # (1, HW, 3)
    g.constants["b"] = RNG.normal(0, 0.3, 4).astype(np.float32)
    w = g.weight("w", RNG.normal(0, 0.6, (3, 4)), 1)
    g.op("MatMul", "m", [tokens, w], None).op("Add", "lin", ["m", "b"], 0.03125)
    g.op("Transpose", "u", [g.last], 0.03125, perm=[0, 2, 1])
    return g.op("Reshape", "y", [g.last, "back"], 0.03125)


def _attention() -> OneOp:
    g = OneOp()
    g.constants["flat"] = np.array([1, 3, SIZE * SIZE])
    g.op("Reshape", "r", [g.last, "flat"], 1 / 64)
    x = g.last  # (1, 3, HW)
    g.op("Transpose", "t", [x], 1 / 64, perm=[0, 2, 1])
    g.op("MatMul", "scores", [x, g.last], 0.5).op("Softmax", "p", [g.last], 1 / 127, axis=-1)
    return g.op("MatMul", "y", [g.last, x], 1 / 64)


def _layer_norm() -> OneOp:
    g = OneOp()
    g.constants |= {"gain": RNG.uniform(0.5, 1.5, SIZE).astype(np.float32), "shift": np.ones(SIZE, np.float32)}
    g.constants["flat"] = np.array([1, 3 * SIZE, SIZE])
    g.op("Reshape", "r", [g.last, "flat"], 1 / 64)
    return g.op("LayerNormalization", "y", [g.last, "gain", "shift"], 0.03125, axis=-1, epsilon=1e-5)


NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
TWICE = {"scales": np.array([1, 1, 2, 2], np.float32)}
LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
POOL: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
FLIP = {"s": [-1, 7], "e": [-(2**62), 0], "a": [2, 3], "t": [-1, -2]}
SLICES = {"s": [0, 1], "e": [2, SIZE], "a": [1, 3]}

CASES: dict[str, tuple[Callable[[], OneOp], int]] = {
    "conv same": (lambda: _conv(), 1),
    "conv stride 2": (lambda: _conv(stride=2), 1),
    "conv valid": (lambda: _conv(pad=0), 1),
    "conv dilated": (lambda: _conv(pad=2, dilation=2), 1),
    "conv 5x5 stride 2": (lambda: _conv(stride=2, pad=2, k=5), 1),
    "conv depthwise": (lambda: _conv(groups=3, cout=3), 1),
    "conv depthwise stride 2": (lambda: _conv(stride=2, groups=3, cout=3), 1),
    "conv depth multiplier": (lambda: _conv(groups=3, cout=6), 1),
    "conv relu6": (lambda: _conv_activation("Clip"), 1),
    "conv clipped at the end of the grid": (lambda: _conv_activation("Clip", 2, 1 / 64), 1),
    "conv clipped inside the grid": (lambda: _conv_activation("Clip", 2, 1 / 32), 1),
    "conv relu": (lambda: _conv_activation("Relu"), 1),
    "transposed 2x2": (lambda: _transposed(2, 0), 1),
    "transposed 4x4 pads 1": (lambda: _transposed(4, 1), 1),
    "max pool": (lambda: _unary("MaxPool", **POOL), 0),
    "average pool": (lambda: _unary("AveragePool", **POOL), 1),
    "average pool, other grid": (lambda: _unary("AveragePool", scale=1 / 50, **POOL), 1),
    "global average pool": (lambda: _unary("GlobalAveragePool", scale=1 / 127), 1),
    "nearest x2": (lambda: _with_constants("Resize", TWICE, 1 / 64, empty=1, **NEAREST), 0),
    "nearest x4": (
        lambda: _with_constants(
            "Resize", {"scales": np.array([1, 1, 4, 4], np.float32)}, 1 / 64, empty=1, **NEAREST
        ),
        0,
    ),
    "bilinear x2": (lambda: _with_constants("Resize", TWICE, 1 / 64, empty=1, **LINEAR), 1),
    "concat": (_concat, 0),
    "add": (lambda: _binary("Add", 1 / 32), 3),
    "sub": (lambda: _binary("Sub", 1 / 32), 3),
    "gate": (_gate, 3),
    "sigmoid": (lambda: _unary("Sigmoid", scale=1 / 127), 0),
    "hard sigmoid": (lambda: _unary("HardSigmoid", scale=1 / 127, alpha=1 / 6, beta=0.5), 2),
    "relu": (lambda: _unary("Relu"), 0),
    "relu to a coarser grid": (lambda: _unary("Relu", scale=1 / 32), 1),  # reference kernels: ties away from zero
    "clip": (
        lambda: _with_constants("Clip", {"lo": np.array(-0.5, np.float32), "hi": np.array(1, np.float32)}, 1 / 64),
        0,
    ),
    "add scalar": (lambda: _with_constants("Add", {"c": np.array(0.7, np.float32)}, 1 / 32), 1),
    "pad": (lambda: _with_constants("Pad", {"p": np.array([0, 0, 1, 2, 0, 0, 3, 0])}, 1 / 64), 0),
    "slice": (lambda: _with_constants("Slice", {k: np.array(v) for k, v in SLICES.items()}, 1 / 64), 0),
    "slice, step 2": (
        lambda: _with_constants(
            "Slice", {**{k: np.array(v) for k, v in SLICES.items()}, "t": np.array([1, 2])}, 1 / 64
        ),
        0,
    ),
    "transpose": (lambda: _unary("Transpose", perm=[0, 1, 3, 2]), 0),
    "flatten": (lambda: _unary("Flatten"), 0),
    "softmax over channels": (lambda: _unary("Softmax", scale=1 / 127, axis=1), 2),
    "linear layer on tokens": (_tokens, 1),
    "attention": (_attention, 4),
    "layer normalization": (_layer_norm, 1),
    "gelu": (lambda: _unary("Gelu"), 0),
    "gelu, tanh": (lambda: _unary("Gelu", approximate="tanh"), 0),
    "hard swish": (lambda: _unary("HardSwish"), 1),
    "tanh": (lambda: _unary("Tanh", scale=1 / 127), 0),
    "max over channels": (lambda: _with_constants("ReduceMax", {"a": np.array([1])}, 1 / 64, keepdims=1), 0),
    "max over rows, axis dropped": (lambda: _with_constants("ReduceMax", {"a": np.array([2])}, 1 / 64, keepdims=0), 0),
    "mean over channels": (lambda: _with_constants("ReduceMean", {"a": np.array([1])}, 1 / 100, keepdims=1), 1),
    "gather, turned round": (lambda: _with_constants("Gather", {"i": np.arange(SIZE)[::-1]}, 1 / 64, axis=3), 0),
    "gather one": (lambda: _with_constants("Gather", {"i": np.array(2)}, 1 / 64, axis=2), 0),
    "flip": (lambda: _with_constants("Slice", {k: np.array(v) for k, v in FLIP.items()}, 1 / 64), 0),
    "pad with ones": (
        lambda: _with_constants(
            "Pad", {"p": np.array([1, 0, 0, 2]), "v": np.array(1, np.float32), "a": np.array([2, 3])}, 1 / 64
        ),
        0,
    ),
    "softplus": (lambda: _unary("Softplus"), 0),
}  # fmt: skip


def _feeds(artifact: Artifact) -> tuple[Any, Any]:
    """(float NCHW reference feed, the artifact's own feed) of one random image."""
    codes = np.random.default_rng(0).integers(-128, 128, (1, 3, SIZE, SIZE)).astype(np.int8)
    real = codes.astype(np.float32) / 64
    own = (codes if artifact.inputs[0].dtype == "int8" else real).transpose(0, 2, 3, 1)
    return {"image": real}, {"image": np.ascontiguousarray(own)}


@pytest.mark.parametrize("kernels", ["xnnpack", "reference"])
@pytest.mark.parametrize("case", CASES)
def test_int8_agrees_with_the_reference_session(case: str, kernels: Kernels, tmp_path: Path) -> None:
    make, bound = CASES[case]
    canonical = make().write(tmp_path / "canonical.onnx")
    artifact = ANDROID.lower(canonical, Precision.INT8, into=tmp_path)
    real, own = _feeds(artifact)
    spec = artifact.outputs[0]
    with open_reference(canonical) as reference, open_session(tmp_path, artifact, kernels=kernels) as session:
        expected = reference.infer(real)["logits"]
        received = logits_from_output(session.infer(own)["logits"], spec)
        names = set(reference.codes(real))
        assert names == set(session.codes(own))
    assert received.shape == expected.shape
    assert spec.scale is not None
    assert np.ptp(expected) > 10 * spec.scale, "the case must use its range, else it proves nothing"
    assert np.abs(received - expected).max() <= (bound + 1e-3) * spec.scale


@pytest.mark.parametrize("case", CASES)
def test_float_agrees_with_the_float_twin(case: str, tmp_path: Path) -> None:
    canonical = CASES[case][0]().write(tmp_path / "canonical.onnx")
    artifact = ANDROID.lower(canonical, Precision.FP32, into=tmp_path)
    twin = strip_qdq(load_graph(canonical)).SerializeToString()
    real, own = _feeds(artifact)
    expected = ort.InferenceSession(twin, providers=["CPUExecutionProvider"]).run(["logits"], real)[0]
    with open_session(tmp_path, artifact) as session:
        received = logits_from_output(session.infer(own)["logits"], artifact.outputs[0])
    np.testing.assert_allclose(received, expected, atol=2e-5, rtol=1e-5)


def test_every_op_of_the_table_is_exercised(tmp_path: Path) -> None:
    seen = {"Identity"}  # what identity() does for every DequantizeLinear
    for name, piece in {**PIECES, **ISLANDS}.items():  # test_tflite_islands.py
        seen |= {node.op for node in load_graph(write_piece(tmp_path / f"{name}.onnx", piece)).nodes}
    for number, (make, _) in enumerate(CASES.values()):
        seen |= {node.op for node in load_graph(make().write(tmp_path / f"{number}.onnx")).nodes}
    assert seen == set(OPS)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _unary("Erf"), "no TFLite lowering for ONNX op 'Erf'"),
        (lambda: _unary("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), "expected no pads"),
        (lambda: _binary("Div", 1 / 32), "no int8 kernel divides"),
        (lambda: _with_constants("ReduceSum", {"a": np.array([1])}, 1 / 64), "not lowered in int8"),
        (lambda: _with_constants("Gather", {"i": np.zeros((2, 2), np.int64)}, 1 / 64, axis=1), "rank 2"),
        (lambda: _with_constants("Pad", {"p": np.array([0, 0, -1, 0, 0, 0, 0, 0])}, 1 / 64), "at least 0"),
        (lambda: _unary("HardSigmoid", alpha=0.2, beta=0.5), "alpha 1/6"),
        (lambda: _with_constants("Add", {"c": np.ones((1, 3, 1, 1), np.float32)}, 0.1), "no int8 grid"),
        (
            lambda: _with_constants("Resize", TWICE, 1 / 64, empty=1, mode="linear",
                                    coordinate_transformation_mode="align_corners"),
            "half_pixel",
        ),
        (lambda: _with_constants("Resize", TWICE, 1 / 64, empty=1, mode="cubic"), "cubic"),
        (
            lambda: _with_constants("Resize", TWICE, 1 / 64, empty=1, mode="nearest",
                                    coordinate_transformation_mode="asymmetric", nearest_mode="ceil"),
            "floor",
        ),
        (lambda: _conv().op("Relu", "z", ["y"], None), "not quantized"),
    ],
)  # fmt: skip
def test_what_cannot_be_lowered_names_the_node(make: Callable[[], OneOp], words: str, tmp_path: Path) -> None:
    canonical = make().write(tmp_path / "canonical.onnx")
    with pytest.raises(GraphError, match=words):
        ANDROID.lower(canonical, Precision.INT8, into=tmp_path)
