"""The view of the canonical graph and its float twin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from edge_unet.canonical import load_graph, load_model, strip_qdq, view_graph
from edge_unet.core.errors import ArtifactError, GraphError, UsageError


def test_weights_and_scales_are_found_by_name(tiny_canonical: Path) -> None:
    graph = load_graph(tiny_canonical)
    convs = [n for n in graph.nodes if n.op == "Conv"]
    assert len(graph.weights) == len(convs) == 10
    for conv in convs:
        weight = graph.weights[conv.inputs[1]]
        assert weight.values.dtype == np.int8
        assert weight.values.min() >= -127
        assert weight.grid.scale.shape == (weight.values.shape[0],)
    assert graph.activations["image.q"].scale == np.float32(1 / 64)
    assert graph.activations["concat0.q"].scale == graph.activations["up0.q"].scale
    assert graph.quantized("concat0.dq") == "concat0.q"
    assert graph.quantized("stem") is None
    assert graph.metadata.name == "tiny"


def test_the_float_twin_has_no_qdq_and_the_same_weights(tiny_canonical: Path, frames_u8: NDArray[np.uint8]) -> None:
    graph = load_graph(tiny_canonical)
    twin = strip_qdq(graph)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {n.op_type for n in twin.graph.node}
    onnx.checker.check_model(twin, full_check=True)
    x = ((frames_u8[:1].astype(np.float32) - 128) / 64).transpose(0, 3, 1, 2)
    quantized = ort.InferenceSession(str(tiny_canonical)).run(None, {"image": x})[0]
    real = ort.InferenceSession(twin.SerializeToString()).run(None, {"image": x})[0]
    assert np.corrcoef(quantized.ravel(), real.ravel())[0, 1] > 0.99
    weight = graph.weights["stem.weight.dq"]
    stem = next(i for i in twin.graph.initializer if i.name == "stem.weight")
    scale = weight.grid.scale[:, None, None, None]
    assert np.array_equal(onnx.numpy_helper.to_array(stem), weight.values.astype(np.float32) * scale)


@pytest.mark.parametrize("keep", [0, 100, 5000])
def test_a_truncated_file_is_an_artifact_error(tiny_canonical: Path, tmp_path: Path, keep: int) -> None:
    short = tmp_path / "short.onnx"
    short.write_bytes(tiny_canonical.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="damaged or truncated ONNX"):
        load_graph(short)


def test_no_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such ONNX file"):
        load_model(tmp_path / "absent.onnx")


def test_a_dynamic_shape_is_refused(tiny_canonical: Path) -> None:
    model = load_model(tiny_canonical)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    with pytest.raises(GraphError, match="dynamic shape"):
        view_graph(model)


def test_missing_or_damaged_metadata_is_named(tiny_canonical: Path) -> None:
    model = load_model(tiny_canonical)
    model.metadata_props[0].value = "{}"
    with pytest.raises(ArtifactError, match=r"metadata_props.*damaged"):
        _ = view_graph(model).metadata
    del model.metadata_props[:]
    with pytest.raises(ArtifactError, match="no 'edge_unet' entry"):
        _ = view_graph(model).metadata
