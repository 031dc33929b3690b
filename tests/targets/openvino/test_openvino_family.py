"""The ops and float islands of the whole family on OpenVINO's CPU plugin: integers as the reference has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from island_graphs import CHANNELS, ISLAND, ISLANDS, PIECES, REASON, SIZE, Island, Piece, write_piece
from one_op_graph import OneOp
from tiny_graph import GraphWriter, frames_u8

from edge_unet.canonical import load_graph
from edge_unet.core.artifact import Census
from edge_unet.core.spec import Precision, feed_from_pixels
from edge_unet.measure.readback import compare_integers
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.openvino import TARGET
from edge_unet.targets.openvino.lower import lower
from edge_unet.targets.openvino.runtime import open_openvino


def compare_with_reference(canonical: Path, folder: Path) -> Census:
    """Codes teacher-forced and logits free-running must equal the reference's; the census of what ran."""
    artifact = lower(canonical, Precision.INT8, into=folder)
    graph = load_graph(canonical)
    assert (f"1 float island: {REASON}" in artifact.notes) == (ISLAND in graph.islands)
    integers = compare_integers(graph, TARGET.read_back(folder, artifact), TARGET.scheme)
    assert integers.offenders == ()
    assert integers.scales_compared == len(graph.activations) + len(graph.weights)
    with open_reference(canonical) as reference, open_openvino(folder, artifact) as session:
        for frame in frames_u8(2, SIZE, seed=7):
            feed = {"image": feed_from_pixels(frame[None], reference.artifact.inputs[0], graph.metadata.preprocess)}
            expected = reference.codes(feed)
            forced = session.codes({"image": frame[None]}, force=expected)
            assert set(forced) == set(expected)
            for name, codes in expected.items():
                inexact = name == f"{ISLAND}.q"  # the last bits of a float are the runtime's own
                assert np.abs(forced[name].astype(np.int16) - codes).max() <= int(inexact), name
                assert np.mean(forced[name] == codes) >= 0.999, name
            ours, theirs = session.infer({"image": frame[None]})["logits"], reference.infer(feed)["logits"]
            # With all fusions on: a rounding lost in a fused kernel would show here.
            assert np.mean(ours == theirs) >= (0.99 if load_graph(canonical).islands else 1)
        return session.census()


def residual(kind: str, **attributes: object) -> Piece:
    """A pointwise op between a residual Add and another one: three roundings that a fused kernel could lose."""

    def piece(g: GraphWriter, x: str) -> str:
        left, right = (g.conv(name, x, CHANNELS, CHANNELS, kernel, act="") for name, kernel in (("l", 1), ("r", 3)))
        curved = g.op(kind, "curved", [g.op("Add", "sum", [left, right], shared=True)], **attributes)
        return g.op("Add", "middle", [curved, x], shared=True)

    return piece


def shuffled(g: GraphWriter, x: str) -> str:
    """Depth to space, whose lowering has steps that are no tensors of the canonical graph, and a way back."""
    half = SIZE // 2
    parts = g.constant("parts", [CHANNELS // 4, 2, 2, half, half])
    split = g.op("Reshape", "split", [x, parts], shared=True)
    moved = g.op("Transpose", "moved", [split], shared=True, perm=[0, 3, 1, 4, 2])
    space = g.op("Reshape", "space", [moved, g.constant("space_shape", [1, CHANNELS // 4, SIZE, SIZE])], shared=True)
    return g.conv("back", space, CHANNELS // 4, CHANNELS, 3, stride=2)


def normalised(epsilon: float) -> Piece:
    """LayerNormalization behind a position embedding; epsilon as large as the variance counts in every code."""

    def piece(g: GraphWriter, x: str) -> str:
        i = Island(g)
        rows = i("Transpose", i("Add", x, i.random(1, CHANNELS, 1, 1)), perm=[0, 2, 3, 1])
        flat = i("Reshape", rows, i.const([1, (SIZE // 2) ** 2, CHANNELS]))
        norm = i("LayerNormalization", flat, i.random(CHANNELS), i.random(CHANNELS), axis=-1, epsilon=epsilon)
        back = i.const([1, SIZE // 2, SIZE // 2, CHANNELS])
        return i("Transpose", i("Reshape", norm, back), last=True, perm=[0, 3, 1, 2])

    return piece


def direct_norm(g: GraphWriter, x: str) -> str:
    """LayerNormalization right behind a quantizer, where the plugin would hand its kernel integers."""
    i = Island(g)
    rows = i("Transpose", g.conv("before", x, CHANNELS, CHANNELS, 1, act=""), perm=[0, 2, 3, 1])
    norm = i("LayerNormalization", rows, i.random(CHANNELS), i.random(CHANNELS), axis=-1, epsilon=1.0)
    return i("Transpose", norm, last=True, perm=[0, 3, 1, 2])


CHAINS = {
    **{f"residual {kind}": residual(kind) for kind in ("Gelu", "HardSwish", "Sigmoid", "Tanh")},
    "shuffle": shuffled,
    "residual HardSigmoid": residual("HardSigmoid", alpha=1 / 6, beta=0.5),
}
NORMS = {"norm 1e-5": normalised(1e-5), "norm 1": normalised(1.0), "direct norm": direct_norm}


@pytest.mark.parametrize("name", [*PIECES, *CHAINS])
def test_every_int8_op_is_bit_exact(name: str, tmp_path: Path) -> None:
    census = compare_with_reference(write_piece(tmp_path / "piece.onnx", {**PIECES, **CHAINS}[name]), tmp_path)
    convs = [layer for layer in census.layers if layer.op in ("Conv", "ConvTranspose")]
    assert len(convs) >= 3
    assert all(layer.precision == "int8" and layer.unit.lower().endswith("i8") for layer in convs)
    assert not any("island" in layer.unit for layer in census.layers)


@pytest.mark.parametrize("name", [*ISLANDS, *NORMS])
def test_float_islands_stay_float(name: str, tmp_path: Path) -> None:
    census = compare_with_reference(write_piece(tmp_path / "piece.onnx", {**ISLANDS, **NORMS}[name]), tmp_path)
    inside = [layer for layer in census.layers if layer.unit.endswith(f", float island {ISLAND}: {REASON}")]
    assert inside
    kinds = {layer.op for layer in inside if layer.precision == "int8"}
    # A convolution in front absorbs elementwise ops, in float behind its sums. The product of two tensors that come
    # dequantized into the island is exact in int32, and nothing is rounded behind it.
    assert kinds <= ({"MatMul"} if name in ("attention", "rearranged") else {"Conv"})
    outside = [layer for layer in census.layers if layer not in inside]
    assert outside
    assert all(layer.precision == "int8" for layer in outside)
    if "orm" in name:
        assert "LayerNormalization" in {layer.op for layer in inside}


@pytest.mark.parametrize("name", [*PIECES, *ISLANDS])
def test_every_op_runs_in_float(name: str, tmp_path: Path) -> None:
    canonical = write_piece(tmp_path / "piece.onnx", {**PIECES, **ISLANDS}[name])
    artifact = lower(canonical, Precision.FP32, into=tmp_path)
    preprocess = load_graph(canonical).metadata.preprocess
    with open_reference(canonical, Precision.FP32) as twin, open_openvino(tmp_path, artifact) as session:
        feed = {"image": feed_from_pixels(frames_u8(1, SIZE), artifact.inputs[0], preprocess)}
        np.testing.assert_allclose(session.infer(feed)["logits"], twin.infer(feed)["logits"], atol=5e-5)
        assert session.census().by_precision().keys() == {"fp32"}


@pytest.mark.parametrize(("channels", "bias"), [(4, 0), (4, 33), (1, 0), (1, -33)])
def test_sums_half_way_between_two_codes_round_as_the_reference_does(channels: int, bias: int, tmp_path: Path) -> None:
    """A weight scale of 7 * 2**n and one bias for all channels: the plugin would divide the quantizer's bounds by 7."""
    rng = np.random.default_rng(0)
    graph = OneOp()
    codes = rng.integers(-127, 128, (channels, 3, 1, 1))
    codes[:, 0] = 127
    weight = graph.weight("weight", codes * 7 / 2**11, axis=0)
    graph.constants["bias"] = np.full(channels, bias * 7 / 2**14, np.float32)
    graph.op("Conv", "conv", [graph.last, weight, "bias"], 2**-5, kernel_shape=[1, 1])
    graph.op("MaxPool", "pool", [graph.last], 2**-5, kernel_shape=[1, 1], strides=[1, 1])
    canonical = graph.write(tmp_path / "canonical.onnx")
    artifact = lower(canonical, Precision.INT8, into=tmp_path)
    preprocess = load_graph(canonical).metadata.preprocess
    with open_reference(canonical) as reference, open_openvino(tmp_path, artifact) as session:
        for frame in rng.integers(0, 256, (400, 1, 8, 8, 3), np.uint8):
            feed = {"image": feed_from_pixels(frame, reference.artifact.inputs[0], preprocess)}
            assert np.array_equal(session.infer({"image": frame})["logits"], reference.infer(feed)["logits"])
