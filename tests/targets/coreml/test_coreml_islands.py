"""INT8 pieces and float islands between convolutions, against the canonical graph with optimizations off.

The pieces have exact scales, so that with fused kernels the package computes the reference's integers; an island in
float32 does too but for ties, which its last float bits decide.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from coreml_packages import Lowered
from island_graphs import ISLAND, ISLANDS, PIECES, REASON, SIZE, write_piece
from numpy.typing import NDArray
from tiny_graph import frames_u8

from edge_unet.canonical import load_graph
from edge_unet.core.errors import GraphError
from edge_unet.core.protocols import LayerSession, ModelledSession
from edge_unet.core.spec import Precision
from edge_unet.targets.coreml import TARGET, lower, read_back
from edge_unet.targets.coreml.package import parse_package
from edge_unet.targets.coreml.runtime import UNFUSED
from edge_unet.targets.onnxruntime.reference import open_reference

Write = Callable[..., Lowered]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Write:
    """written(piece, precision=INT8, islands=None): its canonical graph and package, each made once."""
    made: dict[tuple[object, ...], Lowered] = {}

    def write(name: str, precision: Precision = Precision.INT8, islands: str | None = None) -> Lowered:
        key = (name, precision, islands)
        if key not in made:
            folder = tmp_path_factory.mktemp("islands")
            canonical = write_piece(folder / "canonical.onnx", {**PIECES, **ISLANDS}[name])
            made[key] = Lowered(canonical, folder, lower(canonical, precision, into=folder, islands=islands))
        return made[key]

    return write


@pytest.fixture(scope="module")
def frame() -> NDArray[np.uint8]:
    return frames_u8(1, SIZE, seed=9)


def real(made: Lowered, frame: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """The frame as the reference reads it, (1, C, H, W)."""
    pixels = load_graph(made.canonical).metadata.preprocess.normalize(frame)
    return {"image": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))}


def moved_codes(made: Lowered, frame: NDArray[np.uint8], *, unfused: bool = False) -> dict[str, NDArray[np.int_]]:
    """Teacher-forced: how far each code of each tensor is from the reference's."""
    with open_reference(made.canonical) as reference, TARGET.open(made.folder, made.artifact) as opened:
        assert isinstance(opened, ModelledSession)
        session = opened.other_models()[UNFUSED] if unfused else opened
        assert isinstance(session, LayerSession)
        expected = reference.codes(real(made, frame))
        own = session.codes({"image": frame}, force=expected)
    return {name: np.abs(own[name].astype(int) - codes.astype(int)) for name, codes in expected.items()}


CONVOLUTIONS = ("dilated", "average8", "conv7", "patch4", "grouped", "shift", "deconv2", "linear 2", "Concat 6", "Tanh")
"""Close to what the tiny network or another piece has."""
CASES = [pytest.param(n, marks=[pytest.mark.slow] if n in CONVOLUTIONS else []) for n in [*PIECES, *ISLANDS]]


@pytest.mark.parametrize("name", CASES)
def test_int8_computes_the_integers_of_the_reference(name: str, written: Write, frame: NDArray[np.uint8]) -> None:
    made = written(name)
    with open_reference(made.canonical) as reference, TARGET.open(made.folder, made.artifact) as session:
        expected, received = reference.infer(real(made, frame))["logits"], session.infer({"image": frame})["logits"]
    assert np.abs(expected).max() > 0
    assert ((expected > 0) == (received > 0)).mean() >= 0.999
    for tensor, moved in moved_codes(made, frame).items():
        assert moved.max() <= 1, tensor
        assert (moved > 0).mean() <= 0.001, tensor


@pytest.mark.parametrize("name", ["Gelu", "deconv4", "channel max", *ISLANDS])
def test_with_every_fp16_tensor_rounded_a_segment_is_within_one_step(
    name: str, written: Write, frame: NDArray[np.uint8]
) -> None:
    for tensor, moved in moved_codes(written(name), frame, unfused=True).items():
        assert moved.max() <= 1, tensor


@pytest.mark.parametrize("name", ISLANDS)
def test_fp16_agrees_with_the_float_twin(name: str, written: Write, frame: NDArray[np.uint8]) -> None:
    made = written(name, Precision.FP16)
    with (
        open_reference(made.canonical, Precision.FP16) as reference,
        TARGET.open(made.folder, made.artifact) as session,
    ):
        expected, received = reference.infer(real(made, frame))["logits"], session.infer({"image": frame})["logits"]
        census = session.census()
    assert float(np.abs(received - expected).max()) <= 0.01 * float(np.abs(expected).max())
    inside = [layer for layer in census.layers if ISLAND in layer.unit]
    assert inside
    assert {layer.precision for layer in inside} == {"fp16"}


@pytest.mark.parametrize("name", ["LayerNormalization", "attention", "rearranged", "HardSwish", "global max"])
def test_scales_and_payloads_of_a_graph_with_islands_come_back(name: str, written: Write) -> None:
    made = written(name)
    graph, read = load_graph(made.canonical), read_back(made.folder, made.artifact)
    assert dict(read.absent) == {}
    assert {name: float(grid.scale) for name, grid in read.activations.items()} == {
        name: float(grid.scale) for name, grid in graph.activations.items()
    }
    for weight in graph.weights.values():
        np.testing.assert_array_equal(read.weights[weight.name][0], weight.values)
        np.testing.assert_array_equal(read.weights[weight.name][1].scale, weight.grid.scale)


MOVES = ("Reshape", "Transpose", "Slice", "Unsqueeze", "Squeeze", "Clip", "QuantizeLinear", "DequantizeLinear")


@pytest.mark.parametrize("name", [*ISLANDS, "HardSwish", "Hadamard", "Slice"])
def test_census_names_the_float_layers_by_island(name: str, written: Write) -> None:
    made = written(name)
    with TARGET.open(made.folder, made.artifact) as session:
        census = session.census()
    floats = [layer for layer in census.layers if layer.precision != "int8"]
    assert [layer.name for layer in floats[:2]] == ["image__scaled__", "image__biased__"]
    assert all(layer.precision == "fp32" and f"float island {ISLAND}: {REASON}" in layer.unit for layer in floats[2:])
    assert (len(floats) > 2) == (name in ISLANDS)
    graph = load_graph(made.canonical)
    outside = [n for n in graph.nodes if n.op not in MOVES and graph.island(n) is None]
    assert census.int8_layers == len(outside)
    assert any(("float islands compute in float32" in note) == (name in ISLANDS) for note in made.artifact.notes)


def test_islands_in_fp16_move_codes_that_float32_leaves_alone(written: Write, frame: NDArray[np.uint8]) -> None:
    exact, half = written("LayerNormalization"), written("LayerNormalization", islands="float16")
    exit_ = next(name for name in load_graph(exact.canonical).activations if name.startswith(ISLAND))
    assert moved_codes(exact, frame)[exit_].max() == 0
    moved = moved_codes(half, frame)[exit_]
    assert moved.max() == 1
    assert 0 < (moved > 0).mean() < 0.02
    types = {op.op_type: op.outputs[0].dtype.__name__ for op in parse_package(half.package).main.operations}
    assert types["layer_norm"] == "fp16"
    kept = {op.op_type: op.outputs[0].dtype.__name__ for op in parse_package(exact.package).main.operations}
    assert kept["layer_norm"] == "fp32"


def test_a_large_constant_is_no_trouble_in_a_float32_island(tmp_path: Path) -> None:
    from island_graphs import Island
    from tiny_graph import GraphWriter

    def piece(g: GraphWriter, x: str) -> str:
        island = Island(g)
        return island("Mul", island("Mul", x, island.const(np.float32(1e6))), island.const(np.float32(1e-6)), last=True)

    canonical = write_piece(tmp_path / "canonical.onnx", piece)
    made = Lowered(canonical, tmp_path, lower(canonical, Precision.INT8, into=tmp_path))
    assert max(moved.max() for moved in moved_codes(made, frames_u8(1, SIZE)).values()) <= 1
    with pytest.raises(GraphError, match=r"exceeds the range of fp16"):
        lower(canonical, Precision.FP16, into=tmp_path)
