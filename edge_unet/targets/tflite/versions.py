"""Op versions: the smallest one whose meaning covers what is written, and the oldest runtime that knows it.

A file that asks for newer versions than it needs is refused by old phones and by microcontroller builds for nothing.
Rules and runtimes: tensorflow/lite/tools/versioning/op_version.cc and runtime_version.cc.
"""

from __future__ import annotations

from collections.abc import Mapping

INT8_IS_VERSION_2 = frozenset({
    "ADD", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION", "DEQUANTIZE", "GATHER", "GELU", "LOGISTIC", "MAXIMUM",
    "MAX_POOL_2D", "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "PAD", "PADV2", "REDUCE_MAX", "RELU", "RELU6",
    "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "SLICE", "SOFTMAX", "STRIDED_SLICE", "SUB", "SUM", "TANH",
    "TRANSPOSE",
})  # fmt: skip
"""int8 input is version 2 of these; BROADCAST_TO and REVERSE_V2 have it as version 3."""

BROADCASTING = frozenset({"ADD", "DIV", "MAXIMUM", "MINIMUM", "MUL", "SQUARED_DIFFERENCE", "SUB"})
"""Ops of two operands whose shapes may differ."""

RUNTIMES: Mapping[str, tuple[str, ...]] = {
    "ABS": ("1.13.0",),
    "ADD": ("1.5.0", "1.14.0"),
    "AVERAGE_POOL_2D": ("1.5.0", "1.14.0"),
    "BATCH_MATMUL": ("2.3.0", "2.3.0"),
    "BROADCAST_TO": ("2.5.0", "2.5.0", "2.5.0"),
    "CAST": ("1.5.0",),
    "CONCATENATION": ("1.5.0", "1.14.0"),
    "CONV_2D": ("1.5.0", "1.14.0", "1.14.0", "2.3.0", "2.4.0", "2.9.0"),
    "DEPTHWISE_CONV_2D": ("1.5.0", "1.12.0", "1.14.0"),
    "DEQUANTIZE": ("1.13.1", "1.14.0", "1.15.0"),
    "DIV": ("1.6.0", "2.3.0"),
    "EXP": ("1.7.0",),
    "FULLY_CONNECTED": ("1.5.0", "1.10.0", "1.14.0", "1.14.0", "2.0.0"),
    "GATHER": ("1.6.0", "1.14.0"),
    "GELU": ("2.9.0", "2.9.0"),
    "HARD_SWISH": ("1.15.0",),
    "LOG": ("1.14.0",),
    "LOGISTIC": ("1.14.0", "1.14.0"),
    "MAXIMUM": ("1.14.0", "1.14.0", "2.3.0"),
    "MAX_POOL_2D": ("1.5.0", "1.14.0"),
    "MEAN": ("1.6.0", "1.14.0"),
    "MINIMUM": ("1.14.0", "1.14.0", "2.3.0"),
    "MUL": ("1.5.0", "1.14.0", "1.15.0"),
    "MIRROR_PAD": ("1.13.1", "2.3.0"),
    "NEG": ("1.9.0",),
    "PAD": ("1.5.0", "1.14.0", "2.4.0", "2.6.0"),
    "PADV2": ("1.9.0", "1.14.0", "2.4.0", "2.6.0"),
    "QUANTIZE": ("1.14.0",),
    "REDUCE_MAX": ("1.11.0", "1.14.0"),
    "RELU": ("1.5.0", "2.1.0"),
    "RELU6": ("1.5.0", "1.14.0"),
    "RESHAPE": ("1.5.0",),
    "RESIZE_BILINEAR": ("1.7.0", "1.14.0", "2.2.0"),
    "RESIZE_NEAREST_NEIGHBOR": ("1.13.1", "1.14.0", "2.3.0"),
    "REVERSE_V2": ("1.14.0", "2.2.0", "2.5.0"),
    "RSQRT": ("1.10.0",),
    "SLICE": ("1.14.0", "1.14.0", "1.14.0", "2.4.0", "2.5.0"),
    "SOFTMAX": ("1.5.0", "1.14.0"),
    "SQRT": ("1.10.0",),
    "SQUARED_DIFFERENCE": ("1.13.1",),
    "STRIDED_SLICE": ("1.6.0", "1.14.0", "2.1.0", "2.2.0"),
    "SUB": ("1.6.0", "1.14.0", "2.3.0"),
    "SUM": ("1.10.0",),
    "TANH": ("1.14.0", "1.14.0"),
    "TRANSPOSE": ("1.6.0", "1.14.0", "1.15.0", "2.3.0"),
    "TRANSPOSE_CONV": ("1.9.0", "2.2.0", "2.3.0", "2.13.0"),
}
"""Op -> oldest runtime of version 1, 2, … ; the ops this package writes, no others. BROADCAST_TO has no version 1."""

BEYOND_RANK_4: Mapping[str, int] = {"PAD": 4, "PADV2": 4, "SLICE": 5, "STRIDED_SLICE": 4, "TRANSPOSE": 4}
BROADCAST_BEYOND_RANK_4: Mapping[str, int] = {"DIV": 2, "MAXIMUM": 3, "MINIMUM": 3, "SUB": 3}
"""Op -> the version that takes more than 4 axes, always or where operands differ in shape."""


def op_version(
    code: str, *, int8: bool, options: Mapping[str, object], rank: int = 4, broadcast: bool = False,
    mul_rescale: float = 0.0,
) -> int:  # fmt: skip
    """The smallest version of builtin op `code` that means what is written.

    `options` are the op's schema fields (and "grouped" for a grouped convolution), `rank` is that of its first input
    (of the larger one where `broadcast`: operands of two shapes), `mul_rescale` is s_a * s_b / s_out of an int8 MUL.
    """
    if code == "CONV_2D":
        return 6 if options.get("grouped") else 3 if int8 else 1
    if code == "DEPTHWISE_CONV_2D":
        dilated = any(options.get(key, 1) != 1 for key in ("dilationHFactor", "dilationWFactor"))
        return 3 if int8 else 2 if dilated else 1
    if code == "FULLY_CONNECTED":
        return 5  # keep_num_dims, always with a bias
    if code == "TRANSPOSE_CONV":
        return 4 if options.get("fusedActivationFunction") else 3  # 3: with a bias
    if code in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR") and options.get("halfPixelCenters"):
        return 3
    if code == "MUL" and mul_rescale >= 1:
        return 3
    if rank > 5 and code == "TRANSPOSE":
        return 6
    if rank > 4 and code in BEYOND_RANK_4:
        return BEYOND_RANK_4[code]
    if rank > 4 and broadcast and code in BROADCAST_BEYOND_RANK_4:
        return BROADCAST_BEYOND_RANK_4[code]
    if code in ("BROADCAST_TO", "REVERSE_V2"):
        return 3 if int8 else 2 if code == "BROADCAST_TO" else 1
    return 2 if int8 and code in INT8_IS_VERSION_2 else 1


def minimum_runtime(used: set[tuple[str, int]]) -> str:
    """The oldest runtime version that knows every (op, version) pair."""
    versions = [RUNTIMES[code][version - 1] for code, version in used] or ["1.5.0"]
    return max(versions, key=lambda text: tuple(int(part) for part in text.split(".")))
