"""Int8 forms that only `mcu` has: tables of all codes, and linear Resize as convolutions. Against the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from one_op_graph import SIZE, OneOp

from edge_unet.core.artifact import Codes
from edge_unet.core.protocols import LayerSession
from edge_unet.core.spec import Precision, PreprocessSpec, feed_from_pixels
from edge_unet.targets.mcu import TARGET, vela
from edge_unet.targets.onnxruntime.reference import open_reference
from edge_unet.targets.tflite.model_file import read_model

pytest.importorskip("tflite_micro", reason="tflite-micro is not installed (extra mcu)")

PREPROCESS = PreprocessSpec(height=SIZE, width=SIZE)
ALL_CODES = np.resize(np.arange(256, dtype=np.uint8), (2, SIZE, SIZE, 3))
"""Two frames that hold every pixel value."""


@pytest.fixture(autouse=True)
def without_vela(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes a second for each accelerator; these tests are about what TFLite Micro computes."""
    monkeypatch.setattr(vela, "command", lambda: None)


def last_codes(
    canonical: Path, into: Path, frames: NDArray[np.uint8]
) -> tuple[NDArray[np.int8], NDArray[np.int8], set[str]]:
    """Codes of the last tensor from TFLite Micro and from the reference, and the ops of the file."""
    artifact = TARGET.lower(canonical, Precision.INT8, into=into)
    real = PREPROCESS.normalize(frames).transpose(0, 3, 1, 2)
    ours: list[Codes] = []
    theirs: list[Codes] = []
    with TARGET.open(into, artifact) as micro, open_reference(canonical) as reference:
        assert isinstance(micro, LayerSession)
        assert isinstance(reference, LayerSession)
        for frame, image in zip(frames, real, strict=True):
            ours.append(micro.codes({"image": feed_from_pixels(frame[None], artifact.inputs[0], PREPROCESS)}))
            theirs.append(reference.codes({"image": np.ascontiguousarray(image[None])}))
    name = list(theirs[0])[-1]
    file = read_model(into, artifact)
    used = {file.code(operator) for operator in file.operators}
    return np.concatenate([c[name] for c in ours]), np.concatenate([c[name] for c in theirs]), used


@pytest.mark.parametrize(
    ("op", "scale", "attributes"),
    [
        ("Sigmoid", 1 / 128, {}),
        ("Tanh", 1 / 128, {}),
        ("Gelu", 1 / 64, {}),
        ("Gelu", 1 / 64, {"approximate": "tanh"}),
        ("Exp", 1 / 16, {}),
        ("Neg", 1 / 64, {}),
        ("Relu", 1 / 128, {}),
        ("Softplus", 1 / 32, {}),
    ],
)
def test_a_function_of_one_tensor_gives_the_reference_s_code_for_every_code(
    op: str, scale: float, attributes: dict[str, str], tmp_path: Path
) -> None:
    graph = OneOp()
    canonical = graph.op(op, "y", [graph.last], scale, **attributes).write(tmp_path / "canonical.onnx")
    ours, theirs, used = last_codes(canonical, tmp_path, ALL_CODES)
    assert len(np.unique(theirs)) > 50
    np.testing.assert_array_equal(ours, theirs)
    assert used == {"CAST", "ADD", "GATHER"}


def linear(tmp_path: Path, factor: int, scale: float) -> Path:
    graph = OneOp()
    graph.constants["sizes"] = np.array([1, 1, factor, factor], np.float32)
    graph.op(
        "Resize", "y", [graph.last, "", "sizes"], scale, mode="linear", coordinate_transformation_mode="half_pixel"
    )
    return graph.write(tmp_path / "canonical.onnx")


@pytest.mark.parametrize("scale", [1 / 64, 1 / 32, 1 / 128])
def test_linear_x2_differs_from_the_reference_at_ties_alone_and_only_downwards(scale: float, tmp_path: Path) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    ours, theirs, used = last_codes(linear(tmp_path, 2, scale), tmp_path, frames)
    assert ours.shape == (4, 3, 2 * SIZE, 2 * SIZE)
    difference = ours.astype(int) - theirs.astype(int)
    assert set(np.unique(difference)) == {-1, 0}  # the reference went up to an even code
    assert (theirs[difference == -1] % 2 == 0).all()
    assert (difference != 0).mean() < 0.1
    np.testing.assert_array_equal(ours > 0, theirs > 0)  # the mask of one class
    assert used == {"MIRROR_PAD", "DEPTHWISE_CONV_2D", "CONCATENATION", "RESHAPE"}


def test_linear_by_another_factor_is_the_runtime_s_own_op(tmp_path: Path) -> None:
    frames = np.random.default_rng(3).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    ours, theirs, used = last_codes(linear(tmp_path, 4, 1 / 64), tmp_path, frames)
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert used == {"RESIZE_BILINEAR"}


def test_relu_on_its_input_s_grid_stays_one_op(tmp_path: Path) -> None:
    graph = OneOp()
    canonical = graph.op("Relu", "y", [graph.last], 1 / 64).write(tmp_path / "canonical.onnx")
    ours, theirs, used = last_codes(canonical, tmp_path, ALL_CODES)
    np.testing.assert_array_equal(ours, theirs)
    assert used == {"ADD"}
