"""Small canonical Q/DQ graphs built without torch, so that the device wing is tested on its own.

The graph has one of everything the reference network has: strided stem, expand / depthwise / project with a
residual add, concat with a shared scale, nearest upsampling, max-pool, clipped logits and a final bilinear resize.
Scales come from running the float twin, so that codes use their range.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_unet.canonical import Metadata, write_metadata
from edge_unet.core.spec import ClassSpec, PreprocessSpec, QuantScheme

PALETTE = ((0, 0, 0), (0, 200, 83), (220, 60, 60), (60, 60, 220))


class GraphWriter:
    """Collects float nodes first; `finish` runs them to find ranges and writes the same nodes with Q/DQ."""

    def __init__(self, size: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.size = size
        self.nodes: list[tuple[str, str, list[str], dict[str, object]]] = []
        self.weights: dict[str, NDArray[np.float32]] = {}
        self.constants: dict[str, NDArray[Any]] = {
            "zero": np.float32(0),
            "six": np.float32(6),
            "limit": np.float32(127 / 16),
            "minus_limit": np.float32(-127 / 16),
        }
        self.share: list[set[str]] = []
        self.silent: set[str] = set()  # float tensors without Q/DQ: in front of an activation, inside an island
        self.more: dict[str, list[str]] = {}  # first output -> the node's other outputs

    def conv(
        self, name: str, x: str, cin: int, cout: int, k: int, *, stride: int = 1, groups: int = 1, act: str = "relu6"
    ) -> str:
        """Conv with bias, then Clip(0, 6) or the logit clip unless `act` is ''."""
        scale = np.sqrt(2 / (k * k * cin / groups))
        self.weights[f"{name}.weight"] = self.rng.normal(0, scale, (cout, cin // groups, k, k)).astype(np.float32)
        self.constants[f"{name}.bias"] = self.rng.normal(0, 0.2, cout).astype(np.float32)
        attributes = {"kernel_shape": [k, k], "strides": [stride] * 2, "pads": [k // 2] * 4, "group": groups}
        self.nodes.append(("Conv", name, [x, f"{name}.weight", f"{name}.bias"], attributes))
        return self._activated(name, act)

    def deconv(self, name: str, x: str, cin: int, cout: int, k: int, pad: int, *, act: str = "relu6") -> str:
        """ConvTranspose of stride 2 with bias, then as `conv`."""
        self.weights[f"{name}.weight"] = self.rng.normal(0, np.sqrt(2 / cin), (cin, cout, k, k)).astype(np.float32)
        self.constants[f"{name}.bias"] = self.rng.normal(0, 0.2, cout).astype(np.float32)
        attributes = {"kernel_shape": [k, k], "strides": [2, 2], "pads": [pad] * 4}
        self.nodes.append(("ConvTranspose", name, [x, f"{name}.weight", f"{name}.bias"], attributes))
        return self._activated(name, act)

    def _activated(self, name: str, act: str) -> str:
        if not act:
            return name
        self.silent.add(name)
        low, high = ("zero", "six") if act == "relu6" else ("minus_limit", "limit")
        self.nodes.append(("Clip", f"{name}.act", [name, low, high], {}))
        return f"{name}.act"

    def op(
        self, kind: str, name: str, inputs: list[str], *, shared: bool = False, silent: bool = False,
        more: tuple[str, ...] = (), **attributes: object,
    ) -> str:  # fmt: skip
        """Any other node; `shared` puts inputs and outputs on one scale, `silent` leaves out the Q/DQ behind it,
        `more` names further outputs."""
        self.nodes.append((kind, name, inputs, attributes))
        self.more[name] = list(more)
        if shared:
            self.share.append({*(i for i in inputs if i and i not in self.constants), name, *more})
        if silent:
            self.silent.update((name, *more))
        return name

    def constant(self, name: str, value: ArrayLike) -> str:
        """A constant by name: integers become int64, other numbers float32."""
        array = np.asarray(value)
        self.constants[name] = array.astype(np.int64 if array.dtype.kind in "iu" else np.float32)
        return name

    def resize(self, name: str, x: str, mode: str, factor: int = 2) -> str:
        """By an integer factor, nearest or half-pixel linear."""
        key = self.constant("twice" if factor == 2 else f"times{factor}", [1.0, 1.0, factor, factor])
        extra = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"} if mode == "nearest" else {
            "coordinate_transformation_mode": "half_pixel"}  # fmt: skip
        return self.op("Resize", name, [x, "", key], shared=True, mode=mode, **extra)

    def _model(
        self,
        nodes: list[onnx.NodeProto],
        outputs: list[str],
        constants: dict[str, NDArray[Any]],
        shape: list[int] | None,
    ) -> onnx.ModelProto:
        graph = helper.make_graph(
            nodes,
            "tiny",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, self.size, self.size])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in outputs],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        return onnx.shape_inference.infer_shapes(model)

    def _ranges(self, frames: NDArray[np.uint8]) -> dict[str, float]:
        names = [output for _, name, _, _ in self.nodes for output in (name, *self.more.get(name, ()))]
        nodes = [helper.make_node(k, i, [n, *self.more.get(n, ())], n, **a) for k, n, i, a in self.nodes]
        model = self._model(nodes, names, {**self.constants, **self.weights}, None)
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        if "head.bias" in self.constants:  # centre the logits, so that masks hold both classes
            first = ((frames[:1].astype(np.float32) - 128) / 64).transpose(0, 3, 1, 2)
            middle = np.median(session.run(["head"], {"image": first})[0], axis=(0, 2, 3))
            self.constants["head.bias"] = self.constants["head.bias"] - middle.astype(np.float32)
        ranges = dict.fromkeys(names, 0.0)
        for frame in frames:
            x = ((frame.astype(np.float32) - 128) / 64).transpose(2, 0, 1)[None]
            for name, value in zip(names, session.run(names, {"image": x}), strict=True):
                ranges[name] = max(ranges[name], float(np.abs(value).max()))
        return ranges

    def finish(self, output: str, frames: NDArray[np.uint8]) -> onnx.ModelProto:
        """Write the Q/DQ graph; `output` becomes the graph output 'logits'."""
        ranges = self._ranges(frames)
        scale = {"image": 1 / 64, **{n: float(rounded_up(max(r, 1e-2) / 127, bits=1)) for n, r in ranges.items()}}
        groups: list[set[str]] = []
        for group in self.share:
            joined = [g for g in groups if g & group]
            groups = [g for g in groups if not g & group] + [set().union(group, *joined)]
        for group in groups:
            shared = max(scale[n] for n in group)
            scale.update(dict.fromkeys(group, 1 / 16 if output in group else shared))
        constants: dict[str, NDArray[Any]] = {**self.constants, "zp": np.int8(0)}
        nodes: list[onnx.NodeProto] = []
        real = {"image": self._qdq(nodes, constants, "image", scale["image"])}
        for kind, name, inputs, attributes in self.nodes:
            resolved = [real.get(i, i) for i in inputs]
            if kind in ("Conv", "ConvTranspose"):
                resolved[1] = self._weight(nodes, constants, inputs[1], axis=int(kind == "ConvTranspose"))
            if len(inputs) == 3 and inputs[1] in self.weights:
                step = np.float32(scale[inputs[0]]) * constants[f"{inputs[1]}.scale"]  # of the int32 accumulator
                coarse = 2 ** np.ceil(np.log2(np.maximum(np.abs(constants[inputs[2]]) / (256 * step), 1)))  # fits fp16
                constants[inputs[2]] = np.rint(constants[inputs[2]] / (step * coarse)) * (step * coarse)
            outputs = [name, *self.more.get(name, ())]
            nodes.append(helper.make_node(kind, resolved, outputs, name, **attributes))
            for made in outputs:
                silent = made in self.silent
                real[made] = made if silent else self._qdq(nodes, constants, made, scale[made])
        nodes[-1].output[0] = "logits"
        model = self._model(nodes, ["logits"], constants, None)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _weight(self, nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]], name: str, axis: int) -> str:
        values = self.weights[name]
        scale = rounded_up(np.abs(values).max(axis=(1 - axis, 2, 3)) / 127, bits=3)
        shape = [-1 if place == axis else 1 for place in range(4)]
        codes = np.clip(np.rint(values / scale.reshape(shape)), -127, 127).astype(np.int8)
        constants.update({name: codes, f"{name}.scale": scale, f"{name}.zp": np.zeros(len(scale), np.int8)})
        inputs = [name, f"{name}.scale", f"{name}.zp"]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], f"{name}.dq", axis=axis))
        return f"{name}.dq"

    @staticmethod
    def _qdq(nodes: list[onnx.NodeProto], constants: dict[str, NDArray[Any]], name: str, scale: float) -> str:
        key = f"scale_{scale!r}"
        constants.setdefault(key, np.float32(scale))
        nodes.append(helper.make_node("QuantizeLinear", [name, key, "zp"], [f"{name}.q"], f"{name}.q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}.q", key, "zp"], [f"{name}.dq"], f"{name}.dq"))
        return f"{name}.dq"


def rounded_up(scale: ArrayLike, *, bits: int) -> NDArray[np.float32]:
    """The next number of `bits` significant bits: on such scales the sums of every engine are exact."""
    mantissa, exponent = np.frexp(scale)
    return np.ldexp(np.ceil(mantissa * 2**bits), exponent - bits).astype(np.float32)


def frames_u8(count: int, size: int, seed: int = 0) -> NDArray[np.uint8]:
    """(count, size, size, 3) smooth random pictures."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, size // 8, size // 8, 3))
    fine = coarse.repeat(8, axis=1).repeat(8, axis=2) + rng.normal(0, 20, (count, size, size, 3))
    return np.asarray(np.clip(fine, 0, 255).astype(np.uint8))


def write_tiny(path: Path, *, size: int = 64, classes: int = 1, seed: int = 0) -> Path:
    """Write the canonical ONNX of a tiny network: 1 logit channel, or `classes` channels (2 is not a case)."""
    g = GraphWriter(size, seed)
    stem = g.conv("stem", "image", 3, 8, 3, stride=2)
    wide = g.conv("expand", stem, 8, 16, 1)
    wide = g.conv("depthwise", wide, 16, 16, 3, groups=16)
    tap = g.op("Add", "residual", [stem, g.conv("project", wide, 16, 8, 1, act="")], shared=True)
    down = g.conv("down", tap, 8, 16, 3, stride=2, groups=1)
    pooled = g.op("MaxPool", "pool", [down], shared=True, kernel_shape=[2, 2], strides=[2, 2])
    deep = g.conv("deep", pooled, 16, 16, 3)
    up = g.resize("up0", deep, "nearest")
    cat = g.op("Concat", "concat0", [up, down], shared=True, axis=1)
    mid = g.conv("mid", cat, 32, 16, 1)
    cat = g.op("Concat", "concat1", [g.resize("up1", mid, "nearest"), tap], shared=True, axis=1)
    last = g.conv("last.dw", cat, 24, 24, 3, groups=24)
    last = g.conv("last.pw", last, 24, 8, 1)
    logits = g.conv("head", last, 8, classes, 1, act="logits")
    model = g.finish(g.resize("resize", logits, "linear"), frames_u8(8, size))
    names = ("background", "foreground") if classes == 1 else tuple(f"class{n}" for n in range(classes))
    metadata = Metadata(
        name="tiny", model="tiny", kind="ptq", scheme=QuantScheme.PORTABLE,
        preprocess=PreprocessSpec(height=size, width=size),
        classes=ClassSpec(names=names, palette=PALETTE[: len(names)]),
    )  # fmt: skip
    write_metadata(model, metadata)
    path.write_bytes(model.SerializeToString(deterministic=True))
    return path
