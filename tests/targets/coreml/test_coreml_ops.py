"""Each ONNX op on its own: lowered to an FP16 package, executed by the interpreter, compared with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_graph import PALETTE

from edge_unet.canonical import Metadata, write_metadata
from edge_unet.core.errors import GraphError
from edge_unet.core.spec import ClassSpec, Precision, PreprocessSpec, QuantScheme
from edge_unet.targets.coreml import TARGET, lower
from edge_unet.targets.coreml.ops import OPS

SIZE = 16
RNG = np.random.default_rng(3)
CLASSES = ClassSpec(names=("background", "foreground"), palette=PALETTE[:2])

Nodes = list[onnx.NodeProto]
Constants = dict[str, Any]


def node(op: str, *inputs: str, out: str | list[str] = "logits", **attributes: Any) -> onnx.NodeProto:
    outputs = [out] if isinstance(out, str) else out
    return helper.make_node(op, list(inputs), outputs, outputs[0], **attributes)


def write(path: Path, nodes: Nodes, constants: Constants) -> Path:
    """A float graph image (1, 3, 16, 16) -> logits, with metadata."""
    arrays = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "one", [image], [logits], arrays)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    metadata = Metadata(
        name="one", model="one", kind="ptq", scheme=QuantScheme.PORTABLE, classes=CLASSES,
        preprocess=PreprocessSpec(height=SIZE, width=SIZE),
    )  # fmt: skip
    write_metadata(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


def weights(*shape: int) -> NDArray[np.float32]:
    return RNG.normal(0, 0.3, shape).astype(np.float32)


def ints(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def one(op: str, /, *extra: str, constants: Constants | None = None, **attributes: Any) -> tuple[Nodes, Constants]:
    """image -> op -> logits."""
    return [node(op, "image", *extra, **attributes)], constants or {}


def resized(mode: str, scale: float, coordinates: str, **attributes: Any) -> tuple[Nodes, Constants]:
    scales = np.array([1, 1, scale, scale], np.float32)
    return one("Resize", "", "s", constants={"s": scales}, mode=mode,
               coordinate_transformation_mode=coordinates, **attributes)  # fmt: skip


def binary(op: str) -> tuple[Nodes, Constants]:
    """(image op constant) op gate, so that constants and tensors both occur."""
    nodes = [node("Sigmoid", "image", out="gate"), node(op, "image", "c", out="mid"), node(op, "mid", "gate")]
    return nodes, {"c": np.array([0.5, 2.0, 1.5], np.float32).reshape(1, 3, 1, 1)}


def conv(op: str, shape: tuple[int, ...], out: int, **attributes: Any) -> tuple[Nodes, Constants]:
    return one(op, "w", "b", constants={"w": weights(*shape), "b": weights(out)}, **attributes)


def product() -> tuple[Nodes, Constants]:
    nodes = [
        node("Transpose", "image", out="turned", perm=[0, 1, 3, 2]),
        node("MatMul", "image", "turned", out="square"),
        node("MatMul", "square", "w"),
    ]
    return nodes, {"w": weights(SIZE, 4) * 0.1}


def dense() -> tuple[Nodes, Constants]:
    nodes = [
        node("GlobalAveragePool", "image", out="pooled"),
        node("Flatten", "pooled", out="flat"),
        node("Gemm", "flat", "w", "b", transB=1),
    ]
    return nodes, {"w": weights(5, 3), "b": weights(5)}


def squeezed() -> tuple[Nodes, Constants]:
    nodes = [
        node("ReduceMean", "image", "axis", out="mean", keepdims=1),
        node("Squeeze", "mean", "axis", out="thin"),
        node("Unsqueeze", "thin", "axis"),
    ]
    return nodes, {"axis": ints(1)}


def positive(op: str) -> tuple[Nodes, Constants]:
    """`op` of what Exp makes, which is positive."""
    return [node("Exp", "image", out="grown"), node(op, "grown")], {}


def reduced(op: str, keepdims: int, *axes: int) -> tuple[Nodes, Constants]:
    return one(op, "axes", constants={"axes": ints(*axes)}, keepdims=keepdims)


def sliced(start: list[int], end: list[int], axes: list[int], step: list[int]) -> tuple[Nodes, Constants]:
    constants = {"b": ints(*start), "e": ints(*end), "a": ints(*axes), "s": ints(*step)}
    return one("Slice", "b", "e", "a", "s", constants=constants)


def spread() -> tuple[Nodes, Constants]:
    """One value per channel, repeated over the picture and over a new axis in front."""
    nodes = [node("GlobalMaxPool", "image", out="peak"), node("Expand", "peak", "shape")]
    return nodes, {"shape": ints(2, 1, 1, 4, 5)}


def blocks(*axes: int) -> tuple[Nodes, Constants]:
    """Blocks of 4x4 pixels brought together: six axes, of which the first has size 1."""
    nodes = [
        node("Reshape", "image", "cut", out="cells"),
        node("Transpose", "cells", out="turned", perm=list(axes)),
        node("Reshape", "turned", "rows"),
    ]
    return nodes, {"cut": ints(1, 3, 4, 4, 4, 4), "rows": ints(16, 16, 3)}


def halves() -> tuple[Nodes, Constants]:
    nodes = [
        node("Split", "image", "sizes", out=["top", "bottom"], axis=2),
        node("Concat", "bottom", "top", axis=2, out="swapped"),
        node("Identity", "swapped"),
    ]
    return nodes, {"sizes": ints(4, 12)}


EXACT = 0.0
ROUNDED = 4e-3  # a few fp16 roundings of values up to about 4, relative to the largest output

CASES: dict[str, tuple[Callable[[], tuple[Nodes, Constants]], float]] = {
    "Conv dilated": (lambda: conv("Conv", (8, 3, 3, 3), 8, dilations=[2, 2], pads=[2, 1, 2, 3]), ROUNDED),
    "Conv depthwise": (lambda: conv("Conv", (6, 1, 5, 5), 6, group=3, strides=[2, 2], pads=[2, 2, 2, 2]), ROUNDED),
    "ConvTranspose": (lambda: conv("ConvTranspose", (3, 5, 4, 4), 5, strides=[2, 2], pads=[1, 1, 1, 1]), ROUNDED),
    "ConvTranspose output_padding": (
        lambda: conv("ConvTranspose", (3, 2, 3, 3), 2, strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
        ROUNDED,
    ),
    "ConvTranspose grouped": (
        lambda: conv("ConvTranspose", (3, 1, 4, 4), 3, strides=[2, 2], pads=[3, 3, 3, 3], group=3),
        ROUNDED,
    ),
    "MaxPool": (lambda: one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), EXACT),
    "AveragePool": (lambda: one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), ROUNDED),
    "AveragePool counting": (
        lambda: one("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        ROUNDED,
    ),
    "Resize linear": (lambda: resized("linear", 2, "half_pixel"), ROUNDED),
    "Resize linear 1.5": (lambda: resized("linear", 1.5, "half_pixel"), ROUNDED),
    "Resize nearest": (lambda: resized("nearest", 2, "asymmetric", nearest_mode="floor"), EXACT),
    "Resize nearest half-pixel": (lambda: resized("nearest", 3, "half_pixel"), EXACT),
    "Clip": (lambda: one("Clip", "l", "h", constants={"l": np.float32(-0.5), "h": np.float32(1)}), EXACT),
    "Clip 0-6": (lambda: one("Clip", "l", "h", constants={"l": np.float32(0), "h": np.float32(6)}), EXACT),
    "Clip open": (lambda: one("Clip", "l", "h", constants={"l": np.float32(0), "h": np.float32(3.4e38)}), EXACT),
    "Relu": (lambda: one("Relu"), EXACT),
    "Sigmoid": (lambda: one("Sigmoid"), ROUNDED),
    "HardSigmoid": (lambda: one("HardSigmoid", alpha=0.3, beta=0.4), ROUNDED),
    "HardSwish": (lambda: one("HardSwish"), ROUNDED),
    "Tanh": (lambda: one("Tanh"), ROUNDED),
    "Erf": (lambda: one("Erf"), ROUNDED),
    "Gelu": (lambda: one("Gelu"), ROUNDED),
    "Gelu tanh": (lambda: one("Gelu", approximate="tanh"), ROUNDED),
    "Softmax": (lambda: one("Softmax", axis=1), ROUNDED),
    "LayerNormalization": (
        lambda: one("LayerNormalization", "g", "b", constants={"g": weights(SIZE), "b": weights(SIZE)}, axis=-1),
        ROUNDED,
    ),
    "Add": (lambda: binary("Add"), ROUNDED),
    "Sub": (lambda: binary("Sub"), ROUNDED),
    "Mul": (lambda: binary("Mul"), ROUNDED),
    "Div": (lambda: binary("Div"), ROUNDED),
    "MatMul, Transpose": (product, ROUNDED),
    "GlobalAveragePool, Flatten, Gemm": (dense, ROUNDED),
    "ReduceMean, Squeeze, Unsqueeze": (squeezed, ROUNDED),
    "Split, Concat, Identity": (halves, EXACT),
    "Reshape": (lambda: one("Reshape", "s", constants={"s": ints(1, -1, 8, 8)}), EXACT),
    "Slice": (lambda: sliced([1, -6], [99, -1], [2, 3], [2, 1]), EXACT),
    "Slice reversed": (lambda: sliced([-1], [-(2**62)], [3], [-1]), EXACT),
    "Slice backwards": (lambda: sliced([12, 2], [1, 9], [3, 2], [-3, 1]), EXACT),
    "Exp": (lambda: one("Exp"), ROUNDED),
    "Log": (lambda: positive("Log"), ROUNDED),
    "Sqrt": (lambda: positive("Sqrt"), ROUNDED),
    "Neg": (lambda: one("Neg"), EXACT),
    "Softplus": (lambda: one("Softplus"), ROUNDED),
    "ReduceMax": (lambda: reduced("ReduceMax", 1, 1), EXACT),
    "ReduceMax flat": (lambda: reduced("ReduceMax", 0, 2, -1), EXACT),
    "ReduceSum": (lambda: reduced("ReduceSum", 0, 3), ROUNDED),
    "GlobalMaxPool, Expand": (spread, EXACT),
    "Tile": (lambda: one("Tile", "r", constants={"r": ints(1, 2, 1, 3)}), EXACT),
    "Gather": (lambda: one("Gather", "i", constants={"i": ints(-1, 3, 3)}, axis=2), EXACT),
    "Gather one": (lambda: one("Gather", "i", constants={"i": np.int64(1)}, axis=1), EXACT),
    "six axes": (lambda: blocks(0, 2, 4, 3, 5, 1), EXACT),
    "six axes, the first moved": (lambda: blocks(2, 4, 0, 3, 5, 1), EXACT),
    "Concat with a constant": (
        lambda: one("Concat", "c", constants={"c": weights(1, 2, SIZE, SIZE).astype(np.float16).astype(np.float32)},
                    axis=1),
        EXACT,
    ),
    "Resize nearest of one value": (
        lambda: ([node("GlobalAveragePool", "image", out="mean"),
                  node("Resize", "mean", "", "s", mode="nearest", coordinate_transformation_mode="asymmetric",
                       nearest_mode="floor")], {"s": np.array([1, 1, 8, 12], np.float32)}),
        ROUNDED,
    ),
    "Resize linear 8": (lambda: resized("linear", 8, "half_pixel"), ROUNDED),
    "Pad constant": (
        lambda: one("Pad", "p", "v", constants={"p": ints(0, 1, 2, 0, 0, 0, 1, 3), "v": np.float32(0.5)}),
        EXACT,
    ),
    "Pad reflect": (lambda: one("Pad", "p", constants={"p": ints(0, 0, 2, 1, 0, 0, 1, 3)}, mode="reflect"), EXACT),
    "Pad edge, axes": (
        lambda: one("Pad", "p", "", "a", constants={"p": ints(1, 2, 3, 0), "a": ints(3, 2)}, mode="edge"),
        EXACT,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def frame() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.mark.parametrize("case", CASES)
def test_op(case: str, tmp_path: Path, frame: NDArray[np.uint8]) -> None:
    build, tolerance = CASES[case]
    path = write(tmp_path / "one.onnx", *build())
    real = ((frame.astype(np.float32) - 128) / 64).transpose(0, 3, 1, 2)
    expected = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": real})[0]
    artifact = lower(path, Precision.FP16, into=tmp_path)
    with TARGET.open(tmp_path, artifact) as session:
        received = session.infer({"image": frame})["logits"]
    assert received.shape == expected.shape == artifact.outputs[0].shape
    assert float(np.abs(expected).max()) > 0.05  # a comparison of zeros proves nothing
    assert float(np.abs(received - expected).max()) <= tolerance * max(1.0, float(np.abs(expected).max()))


def test_every_op_of_the_table_has_a_case() -> None:
    covered = {entry.op_type for build, _ in CASES.values() for entry in build()[0]}
    assert set(OPS) - covered == {"QuantizeLinear", "DequantizeLinear"}  # covered by the tiny graphs


REFUSED: dict[str, tuple[Callable[[], tuple[Nodes, Constants]], str]] = {
    "align_corners": (lambda: resized("linear", 2, "align_corners"), "half-pixel linear"),
    "nearest by 1.5": (lambda: resized("nearest", 1.5, "asymmetric", nearest_mode="floor"), "whole factor"),
    "cubic": (lambda: resized("cubic", 2, "half_pixel"), "half-pixel linear"),
    "auto_pad": (lambda: conv("Conv", (4, 3, 3, 3), 4, auto_pad="SAME_UPPER"), "auto_pad"),
    "dilated pool": (lambda: one("MaxPool", kernel_shape=[2, 2], dilations=[2, 2]), "no dilation"),
    "ceil_mode": (lambda: one("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), "without rounding"),
    "six axes": (lambda: one("Reshape", "s", constants={"s": ints(3, 2, 8, 2, 4, 2)}), "at most 5 axes .* longer"),
    "Softmax over six axes": (
        lambda: ([node("Reshape", "image", "s", out="cells"), node("Softmax", "cells")],
                 {"s": ints(1, 3, 2, 8, 4, 4)}),
        "at most 5 axes in MIL",
    ),
    "crop by Pad": (lambda: one("Pad", "p", constants={"p": ints(0, 0, -1, 0, 0, 0, 0, 0)}), "amounts >= 0"),
    "scaled Gemm": (
        lambda: ([node("Flatten", "image", out="f"), node("Gemm", "f", "w", alpha=2.0)], {"w": weights(768, 2)}),
        "alpha",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_mil_cannot_say_is_refused_by_name(case: str, tmp_path: Path) -> None:
    build, reason = REFUSED[case]
    path = write(tmp_path / "one.onnx", *build())
    with pytest.raises(GraphError, match=rf"node 'logits' .*{reason}"):
        lower(path, Precision.FP16, into=tmp_path)
